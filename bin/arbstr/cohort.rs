//! Requests that a thread finds ready in one go make a cohort: it takes all of them through a stage before the next begins.
//!
//! It is known as cohort scheduling (Larus and Parkes, USENIX 2002). One request after the other, each alternates between code of arbstr's,
//! the kernel's and, woken by what was sent, the peer's, which put one another out of the processor's caches. Side by side, all
//! requests are worked on, then all are sent, and one write puts them all on record ([`crate::ledger::Pending`]). Giving way costs
//! a few hundred instructions a stage, which a request does not spend beside which its thread has begun no other.
//!
//! A stage ends where something is about to leave, or where there is much to do ahead of that. More and shorter stages were
//! tried, and stages kept apart by queues of their own: neither saved anything more.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// A request that its thread has in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct Member(());

/// One more request in hand.
pub(crate) fn join() -> Member {
    MEMBERS.set(MEMBERS.get() + 1);
    Member(())
}

impl Drop for Member {
    fn drop(&mut self) {
        MEMBERS.set(MEMBERS.get().saturating_sub(1));
    }
}

/// Resolves once all that were ready have had their turn, at once if nobody else is there: the end of a stage.
pub(crate) fn rejoin() -> impl Future<Output = ()> {
    let mut gave_way = false;
    poll_fn(move |cx| {
        if gave_way || MEMBERS.get() < 2 {
            return Poll::Ready(());
        }
        gave_way = true;
        // Not tokio's `yield_now`, which asks the system for news first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

thread_local! {
    static MEMBERS: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::Future;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Waker};

    use super::{join, rejoin};

    #[test]
    fn who_is_alone_goes_on() {
        let _member = join();
        let mut alone = pin!(rejoin());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(alone.as_mut().poll(&mut cx).is_ready());
        let another = join();
        let mut in_company = pin!(rejoin());
        assert!(in_company.as_mut().poll(&mut cx).is_pending());
        assert!(in_company.as_mut().poll(&mut cx).is_ready());
        drop(another);
        assert!(pin!(rejoin()).poll(&mut cx).is_ready());
    }

    #[test]
    fn a_stage_is_run_for_all_before_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let tasks = tokio::task::LocalSet::new();
        for name in ['a', 'b', 'c'] {
            let seen = Rc::clone(&seen);
            let member = join();
            tasks.spawn_local(async move {
                let _member = member;
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
