//! A look at a pool that changes nothing in it, for copies that nobody waits for.

use std::{net::SocketAddr, time::Instant};

use rand::Rng;

use super::ModelPolicy;
use crate::pool::Wish;

impl ModelPolicy {
    /// An endpoint of `version` that serves and has room: of two that are drawn, the
    /// one with fewer requests out. Nothing is remembered of it: no permit, no
    /// estimate, no budget.
    pub fn look(
        &self,
        version: &str,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
    ) -> Option<SocketAddr> {
        let pool = &self.pools[self.index_of(version).ok()?];
        let wish = Wish {
            tried: &[],
            balance: &self.config.rules.balance,
            now,
        };
        let key = pool.look(&self.endpoints, wish, rng)?;
        Some(self.endpoints[key].address)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        CheckResult, ModelConfig,
        config::{Rules, VersionConfig},
        tests::origin,
    };

    #[test]
    fn a_look_finds_what_serves_and_leaves_no_trace() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let version = VersionConfig {
            name: "1".into(),
            weight: 1.0,
            endpoints: vec![at(1), at(2)],
        };
        let config = ModelConfig::new(vec![version], &[] as &[&str], Rules::default()).unwrap();
        let (mut policy, now) = (ModelPolicy::new(config, origin()), origin());
        let mut rng = StdRng::seed_from_u64(3);
        assert_eq!(policy.look("1", now, &mut rng), None, "nothing was checked");
        policy.check("1", at(2), CheckResult::Up, now);
        let before = policy.status(now);
        for _ in 0..100 {
            assert_eq!(policy.look("1", now, &mut rng), Some(at(2)));
        }
        assert_eq!(policy.look("2", now, &mut rng), None);
        assert_eq!(policy.status(now), before);
    }
}
