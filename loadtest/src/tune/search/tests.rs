//! The search against simulated backends whose costs it does not know.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::tune::queue::Queue;

/// A backend as it is, which shows itself only by runs.
struct Truth {
    costs: Costs,
    overhead: f64,
    lanes: u32,
    /// What each further lane brings, of what the first does.
    gain: f64,
    /// How far a measured figure may be off.
    noise: f64,
    bounds: Vec<Bound>,
}

impl Truth {
    fn draw(random: &mut StdRng) -> Self {
        let alpha = 10_f64.powf(random.random_range(-4.0..-2.5));
        let beta = alpha * 10_f64.powf(random.random_range(-0.5..1.5));
        // From hardly more than a batch of one takes to what keeps nobody from anything.
        let below_ms = 1000.0 * (alpha + beta) * random.random_range(4.0..60.0);
        Self {
            costs: Costs { alpha, beta },
            overhead: alpha * random.random_range(0.0..0.5),
            lanes: random.random_range(1..=2),
            gain: random.random_range(0.3..1.0),
            noise: 0.02,
            bounds: vec![Bound {
                quantile: 0.99,
                below_ms,
            }],
        }
    }

    fn queue(&self, setting: Setting) -> Queue {
        let lanes = setting.instances.min(self.lanes);
        let slower = f64::from(lanes) / (1.0 + self.gain * f64::from(lanes - 1));
        Queue {
            costs: Costs {
                alpha: (self.costs.alpha + self.overhead) * slower,
                beta: self.costs.beta * slower,
            },
            instances: lanes as usize,
            batch: setting.max_batch_size as usize,
            jitter: 0.2,
        }
    }

    /// What a setting really sustains.
    fn sustained(&self, setting: Setting) -> f64 {
        self.queue(setting)
            .sustained(&self.bounds, HIGHEST, 6000, 99)
    }

    /// Carries the search out.
    fn run(&self, mut search: Search, random: &mut StdRng) -> Search {
        while let Some(step) = search.step() {
            let off = |random: &mut StdRng| 1.0 + self.noise * random.random_range(-1.0..1.0);
            match step {
                Step::Saturate(setting) => {
                    search.saturated(self.queue(setting).capacity() * off(random));
                }
                Step::Hold(setting, rate) => {
                    let seed = random.random();
                    let rate = rate * off(random);
                    let is_met = self.queue(setting).keeps(&self.bounds, rate, 3000, seed);
                    search.held(Held {
                        is_met,
                        ..Held::default()
                    });
                }
            }
            search.learn(Costs {
                alpha: self.costs.alpha * off(random),
                beta: self.costs.beta * off(random),
            });
        }
        search
    }
}

fn settings() -> Vec<Setting> {
    let batches = [1, 2, 4, 8, 16, 32];
    let of = |instances| {
        batches.map(|max_batch_size| Setting {
            instances,
            max_batch_size,
        })
    };
    [of(1), of(2)].concat()
}

#[test]
fn a_quarter_of_the_runs_finds_what_is_within_a_twentieth_of_the_best() {
    let settings = settings();
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let truth = Truth::draw(&mut random);
        let budget = settings.len() * RUNS_EACH / 4;
        let search = || Search::of(&settings, truth.bounds.clone(), 2, budget);
        let sweep = truth.run(search().sweep(), &mut random);
        let guided = truth.run(search(), &mut random);
        assert!(sweep.runs() <= 48, "seed {seed}: {}", sweep.runs());
        assert!(
            4 * guided.runs() <= settings.len() * RUNS_EACH,
            "seed {seed}: {} runs",
            guided.runs()
        );
        let really = |search: &Search| search.best().map(|trial| truth.sustained(trial.setting));
        let Some(best) = really(&sweep) else {
            continue;
        };
        let found = really(&guided).unwrap_or(0.0);
        assert!(
            found >= 0.95 * best,
            "seed {seed}: {found} of {best}: {:?} and {:?} of {:?} {}",
            guided.trials,
            sweep.best(),
            truth.costs,
            truth.gain
        );
    }
}

#[test]
fn a_sweep_tries_everything_whole() {
    let settings = settings();
    let mut random = StdRng::seed_from_u64(3);
    let truth = Truth::draw(&mut random);
    let search = Search::of(&settings, truth.bounds.clone(), 2, 1).sweep();
    let search = truth.run(search, &mut random);
    assert_eq!(search.runs(), settings.len() * RUNS_EACH);
    assert_eq!(search.into_trials().1, 0);
}

#[test]
fn it_ends_where_no_prediction_beats_the_best() {
    // Without a cost of the batch, and with one lane, no setting is better than another.
    let truth = Truth {
        costs: Costs {
            alpha: 0.001,
            beta: 0.0,
        },
        overhead: 0.0,
        lanes: 1,
        gain: 1.0,
        noise: 0.0,
        bounds: Vec::new(),
    };
    let search = Search::of(&settings(), Vec::new(), 1, 100);
    let search = truth.run(search, &mut StdRng::seed_from_u64(1));
    assert_eq!(search.runs(), RUNS_EACH);
    let first = search.best().unwrap().setting;
    assert_eq!((first.instances, first.max_batch_size), (1, 32));
}

#[test]
fn objectives_that_nothing_keeps_leave_no_best() {
    let mut random = StdRng::seed_from_u64(5);
    let mut truth = Truth::draw(&mut random);
    truth.bounds[0].below_ms = 1e-3;
    let search = Search::of(&settings(), truth.bounds.clone(), 2, 12);
    let search = truth.run(search, &mut random);
    assert_eq!(search.best(), None);
    assert!(search.runs() <= 12);
}
