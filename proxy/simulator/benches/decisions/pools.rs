//! One decision after the other, in a pool of eight and in one of ten thousand.
//!
//! A decision is all that the policy does for a request that goes well: `start`,
//! `sent`, `judge`, `release`. The pools take turns, a block each, so that whatever
//! else the machine does meanwhile hits both alike; the median over the rounds counts.

use std::{
    collections::VecDeque,
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use aegis_policy::{
    Ask, CheckResult, ModelConfig, ModelPolicy, Outcome, Permit, Purpose, Rules, VersionConfig,
};
use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;

use crate::clock;

/// Endpoints of the pools.
const SIZES: [u32; 4] = [8, 100, 1_000, 10_000];
/// Requests that are out at a time.
const OUT: usize = 64;
/// Virtual time from one request to the next: 100,000 requests a second.
const GAP: Duration = Duration::from_micros(10);
/// Decisions before it counts: every endpoint has its samples then.
const WARM: usize = 1_000_000;
/// Decisions of a block; a tick follows, outside of what is measured.
const BLOCK: usize = 2_500;
const BLOCKS: usize = 40;

/// What decisions cost in one pool.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) endpoints: u32,
    /// Nanoseconds of processor time, the median of the rounds.
    pub(crate) decision_ns: f64,
    /// How many times one among eight; the median of the rounds' ratios.
    pub(crate) ratio: f64,
}

struct Pool {
    policy: ModelPolicy,
    now: Instant,
    rng: StdRng,
    out: VecDeque<Permit>,
    rounds: Vec<f64>,
}

/// Measures so many rounds.
pub(crate) fn measure(rounds: usize, seed: u64) -> Result<Vec<Cost>> {
    let mut pools = Vec::new();
    for size in SIZES {
        let mut pool = Pool::new(size, seed)?;
        for _ in 0..WARM {
            pool.decide()?;
        }
        pools.push(pool);
    }
    for _ in 0..rounds {
        for pool in &mut pools {
            pool.round()?;
        }
    }
    let base = pools[0].rounds.clone();
    let cost = |(pool, endpoints): (&Pool, u32)| Cost {
        endpoints,
        decision_ns: median(pool.rounds.clone()),
        ratio: median(pool.rounds.iter().zip(&base).map(|(a, b)| a / b).collect()),
    };
    Ok(pools.iter().zip(SIZES).map(cost).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

// === impl Pool ===

impl Pool {
    fn new(size: u32, seed: u64) -> Result<Self> {
        let address = |n| SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + n), 8000));
        let version = VersionConfig {
            name: "1".into(),
            weight: 1.0,
            endpoints: (0..size).map(address).collect(),
        };
        let now = clock::now();
        let fallback: [&str; 0] = [];
        let config = ModelConfig::new(vec![version], &fallback, Rules::default())?;
        let mut policy = ModelPolicy::new(config, now);
        for n in 0..size {
            policy.check("1", address(n), CheckResult::Up, now);
        }
        Ok(Self {
            policy,
            // Slow start is over.
            now: now + Duration::from_secs(20),
            rng: StdRng::seed_from_u64(seed),
            out: VecDeque::new(),
            rounds: Vec::new(),
        })
    }

    fn round(&mut self) -> Result<()> {
        let mut worked = Duration::ZERO;
        for _ in 0..BLOCKS {
            let began = clock::worked();
            for _ in 0..BLOCK {
                self.decide()?;
            }
            worked += clock::worked().saturating_sub(began);
            black_box(self.policy.tick(self.now, &mut self.rng));
        }
        let decisions = (BLOCKS * BLOCK) as f64;
        self.rounds.push(worked.as_secs_f64() * 1e9 / decisions);
        Ok(())
    }

    fn decide(&mut self) -> Result<()> {
        self.now += GAP;
        let ask = Ask {
            version: None,
            sticky: None,
            replayable: true,
            uploading: false,
            retries_left: true,
            purpose: Purpose::Inference,
            deadline: self.now + Duration::from_millis(1_500),
        };
        let attempt = self.policy.start(ask, self.now, &mut self.rng)?;
        self.policy.sent(&attempt.permit, self.now);
        self.out.push_back(attempt.permit);
        if self.out.len() > OUT {
            let permit = self.out.pop_front().context("nothing is out")?;
            let waited = Duration::from_micros(4_000 + self.rng.random_range(0..2_000));
            let outcome = Outcome::Success { waited };
            self.policy
                .judge(&permit, outcome.into(), self.now, &mut self.rng);
            self.policy.release(permit, false, self.now, &mut self.rng);
        }
        Ok(())
    }
}
