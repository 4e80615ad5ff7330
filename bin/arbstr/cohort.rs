//! Requests that a thread finds ready in one go make a cohort: it takes all of them through a stage before the next begins.
//!
//! It is known as cohort scheduling (Larus and Parkes, USENIX 2002). One request after the other, each alternates between code of arbstr's,
//! the kernel's and, woken by what was sent, the peer's, which put one another out of the processor's caches. Side by side, all
//! requests are worked on, then all are sent, and one write puts them all on record ([`crate::ledger::Pending`]). A request that
//! is alone loses a few hundred instructions a stage.
//!
//! A stage ends where something is about to leave, or where there is much to do ahead of that. More and shorter stages were
//! tried, and stages kept apart by queues of their own: neither saved anything more.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// Resolves once all that were ready have had their turn: the end of a stage.
pub(crate) fn rejoin() -> impl Future<Output = ()> {
    let mut gave_way = false;
    poll_fn(move |cx| {
        if gave_way {
            return Poll::Ready(());
        }
        gave_way = true;
        // Not tokio's `yield_now`, which asks the system for news first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::rejoin;

    #[test]
    fn a_stage_is_run_for_all_before_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let tasks = tokio::task::LocalSet::new();
        for name in ['a', 'b', 'c'] {
            let seen = Rc::clone(&seen);
            tasks.spawn_local(async move {
                for stage in 1..=3 {
                    seen.borrow_mut().push((stage, name));
                    rejoin().await;
                }
            });
        }
        runtime.block_on(tasks);
        let all: Vec<_> = (1..=3)
            .flat_map(|stage| ['a', 'b', 'c'].map(|name| (stage, name)))
            .collect();
        assert_eq!(*seen.borrow(), all);
    }
}
