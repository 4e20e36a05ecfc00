//! Bounded queues between a flow's thread and its users.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A lock that does not poison: the state behind it is valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a queue does with an element it has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The newcomer is refused.
    Refuse,
    /// The oldest element makes room.
    DropOldest,
}

/// Why an element was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue holds as much as it may.
    Full,
    /// The other end is gone.
    Closed,
}

/// A bounded first-in, first-out queue usable from threads and from async code.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    capacity: usize,
    overflow: Overflow,
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    waiting: Option<Waker>,
    /// Threads in [`Queue::pop_timeout`]: a wake-up costs a system call even when there are none.
    waiting_threads: usize,
    dropped: u64,
    /// Elements lost in front of the one that is now the oldest.
    gap: bool,
    closed: bool,
}

/// One element taken from a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken<T> {
    pub(crate) item: T,
    /// Elements between the previous one and this were dropped by this queue.
    pub(crate) after_gap: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize, overflow: Overflow) -> Self {
        let items = VecDeque::new();
        let state = State { items, waiting: None, waiting_threads: 0, dropped: 0, gap: false, closed: false };
        Self { capacity, overflow, state: Mutex::new(state), filled: Condvar::new() }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= self.capacity {
            state.dropped += 1;
            if self.overflow == Overflow::Refuse {
                return Err(Refused::Full);
            }
            state.items.pop_front();
            state.gap = true;
        }
        state.items.push_back(item);
        let waiting = state.waiting.take();
        let notify = state.waiting_threads > 0;
        drop(state);
        if notify {
            self.filled.notify_one();
        }
        if let Some(waker) = waiting {
            waker.wake();
        }
        Ok(())
    }

    /// Everything queued, oldest first.
    pub(crate) fn drain_into(&self, out: &mut Vec<T>) {
        out.extend(lock(&self.state).items.drain(..));
    }

    /// The oldest element, waiting for one up to `timeout`: `Ok(None)` when none came, `Err` when closed and empty.
    pub(crate) fn pop_timeout(&self, timeout: Duration) -> Result<Option<Taken<T>>, Refused> {
        let started = Instant::now();
        let mut state = lock(&self.state);
        loop {
            if let Some(taken) = state.pop() {
                return Ok(Some(taken));
            }
            if state.closed {
                return Err(Refused::Closed);
            }
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            state.waiting_threads += 1;
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting_threads -= 1;
        }
    }

    /// The oldest element, as soon as there is one; `None` when closed and empty. One task may wait at a time.
    pub(crate) async fn pop(&self) -> Option<Taken<T>> {
        poll_fn(|context| {
            let mut state = lock(&self.state);
            if let Some(taken) = state.pop() {
                return Poll::Ready(Some(taken));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Refuses further elements; what is queued can still be taken.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let waiting = state.waiting.take();
        drop(state);
        self.filled.notify_all();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.state).items.len()
    }

    pub(crate) fn dropped(&self) -> u64 {
        lock(&self.state).dropped
    }
}

impl<T> State<T> {
    fn pop(&mut self) -> Option<Taken<T>> {
        let item = self.items.pop_front()?;
        Some(Taken { item, after_gap: std::mem::take(&mut self.gap) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    #[test]
    fn a_full_queue_refuses_or_drops_the_oldest_and_counts() {
        let refusing = Queue::new(2, Overflow::Refuse);
        assert_eq!([1, 2, 3].map(|i| refusing.push(i)), [Ok(()), Ok(()), Err(Refused::Full)]);
        let dropping = Queue::new(2, Overflow::DropOldest);
        assert_eq!([1, 2, 3].map(|i| dropping.push(i)), [Ok(()); 3]);
        assert_eq!(dropping.pop_timeout(Duration::ZERO), Ok(Some(Taken { item: 2, after_gap: true })));
        assert_eq!(dropping.pop_timeout(Duration::ZERO), Ok(Some(Taken { item: 3, after_gap: false })));
        assert_eq!((refusing.dropped(), dropping.dropped()), (1, 1));
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_then_ends() {
        let queue = Queue::new(2, Overflow::Refuse);
        queue.push(1).expect("room");
        queue.close();
        assert_eq!(queue.push(2), Err(Refused::Closed));
        assert_eq!(queue.pop_timeout(Duration::ZERO), Ok(Some(Taken { item: 1, after_gap: false })));
        assert_eq!(queue.pop_timeout(Duration::from_secs(5)), Err(Refused::Closed));
    }

    #[test]
    fn a_waiting_thread_gets_what_another_pushes() {
        let queue = Arc::new(Queue::new(2, Overflow::Refuse));
        let other = Arc::clone(&queue);
        let thread = std::thread::spawn(move || other.pop_timeout(Duration::from_secs(10)));
        queue.push(5).expect("room");
        assert_eq!(thread.join().expect("no panic"), Ok(Some(Taken { item: 5, after_gap: false })));
        assert_eq!(queue.pop_timeout(Duration::from_millis(1)), Ok(None));
    }

    #[test]
    fn a_thread_may_wait_for_ever() {
        let queue = Arc::new(Queue::new(2, Overflow::Refuse));
        let other = Arc::clone(&queue);
        let thread = std::thread::spawn(move || other.pop_timeout(Duration::MAX));
        queue.push(5).expect("room");
        assert_eq!(thread.join().expect("no panic"), Ok(Some(Taken { item: 5, after_gap: false })));
    }

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_waiting_task_is_woken_once_per_wait() {
        let queue = Queue::new(4, Overflow::Refuse);
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut pop = pin!(queue.pop());
        assert!(pop.as_mut().poll(&mut context).is_pending());
        queue.push(1).expect("room");
        queue.push(2).expect("room");
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(pop.as_mut().poll(&mut context), Poll::Ready(Some(Taken { item: 1, after_gap: false })));
        queue.close();
        assert_eq!(pin!(queue.pop()).poll(&mut context), Poll::Ready(Some(Taken { item: 2, after_gap: false })));
        assert_eq!(pin!(queue.pop()).poll(&mut context), Poll::Ready(None));
    }
}
