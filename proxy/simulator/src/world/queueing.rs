//! Requests that wait for a slot: `model/queue.rs` of the shell.
//!
//! Slots that have come free are given away after whatever freed them: a release,
//! a check, a tick. One that has waited until its deadline is told so then.

use aegis_policy::{Refusal, Refused, Waiter};
use slotmap::DefaultKey;

use super::{Proxy, World};
use crate::{events::Event, tally::Ending};

impl World<'_> {
    /// A request stands in line from now on.
    pub(super) fn waits(&mut self, request: DefaultKey, waiter: Waiter) {
        let waiting = &self.requests[request];
        let (proxy, deadline) = (waiting.proxy, waiting.deadline);
        self.proxies[proxy as usize].waiting.insert(waiter, request);
        self.events
            .plan(deadline, Event::WaitEnds { proxy, waiter });
    }

    /// The deadline of one that may still wait.
    pub(super) fn wait_ends(&mut self, proxy: u32, waiter: Waiter) {
        let now = self.instant();
        let Proxy {
            policy, waiting, ..
        } = &mut self.proxies[proxy as usize];
        if let Some(request) = waiting.remove(&waiter)
            && let Some(refused) = policy.expire(waiter, now)
        {
            self.refused(request, &refused);
        }
    }

    /// Hands out the slots that have come free at a proxy.
    pub(super) fn serve_queue(&mut self, proxy: u32) {
        let now = self.instant();
        loop {
            let Proxy {
                policy,
                rng,
                waiting,
            } = &mut self.proxies[proxy as usize];
            if policy.queued() == 0 {
                return;
            }
            let Some((waiter, outcome)) = policy.serve(now, rng) else {
                return;
            };
            let Some(request) = waiting.remove(&waiter) else {
                continue;
            };
            match outcome {
                Ok(attempt) => self.goes(request, attempt),
                Err(refused) => self.refused(request, &refused),
            }
        }
    }

    /// A request gets no attempt.
    pub(super) fn refused(&mut self, request: DefaultKey, refused: &Refused) {
        let ending = match refused.refusal {
            _ if refused.stand_in.is_some() => Ending::Static,
            Refusal::NoRoom | Refusal::QueueFull | Refusal::WaitTooLong | Refusal::WaitedInVain => {
                Ending::Full
            }
            Refusal::UnknownVersion | Refusal::NoEndpoint | Refusal::NoBudget | Refusal::NoTime => {
                Ending::Nowhere
            }
        };
        self.ends(request, ending);
    }
}
