//! Runs futures without a runtime, and hands results from one worker to another.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::Failure;

/// A future on the heap that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts a future so that it runs beside others until it ends.
pub(super) type Spawner = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Runs a future on this thread until it ends.
///
/// ```
/// assert_eq!(crm_core::storage::conformance::block_on(async { 2 + 2 }), 4);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake in between makes `park` return at once.
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs every future on a thread of its own.
pub(super) fn on_threads() -> Spawner {
    Arc::new(|future| {
        thread::spawn(move || block_on(future));
    })
}

/// Runs all tasks at the same time and returns their results in order.
///
/// # Errors
/// If a task ended without a result, because it panicked.
pub(super) async fn join_all<T: Send + 'static>(
    spawner: &Spawner,
    tasks: Vec<BoxFuture<'static, T>>,
) -> Result<Vec<T>, Failure> {
    let mut running = Vec::with_capacity(tasks.len());
    for task in tasks {
        let state = Arc::new(Mutex::new(State::Waiting(None)));
        let sender = Sender(state.clone());
        running.push(Receiver(state));
        spawner(Box::pin(async move {
            let output = task.await;
            sender.put(State::Done(output));
        }));
    }
    let mut results = Vec::with_capacity(running.len());
    for receiver in running {
        match receiver.await {
            Some(result) => results.push(result),
            None => return Err(Failure::new("expected every worker to end; one panicked")),
        }
    }
    Ok(results)
}

/// Lets others run, where several futures share a thread.
pub(super) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

enum State<T> {
    Waiting(Option<Waker>),
    Done(T),
    Gone,
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "Waiting",
            Self::Done(_) => "Done",
            Self::Gone => "Gone",
        })
    }
}

fn locked<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sender<T>(Arc<Mutex<State<T>>>);

impl<T> Sender<T> {
    fn put(&self, state: State<T>) {
        let mut held = locked(&self.0);
        if let State::Waiting(waker) = &mut *held {
            let waker = waker.take();
            *held = state;
            drop(held);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Changes nothing where the result was handed over.
        self.put(State::Gone);
    }
}

struct Receiver<T>(Arc<Mutex<State<T>>>);

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut held = locked(&self.0);
        match std::mem::replace(&mut *held, State::Gone) {
            State::Waiting(_) => {
                *held = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Done(output) => Poll::Ready(Some(output)),
            State::Gone => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_panic_is_told() {
        let tasks: Vec<BoxFuture<'static, usize>> = (0..20_usize)
            .map(|n| Box::pin(async move { n }) as BoxFuture<'static, usize>)
            .collect();
        let results = block_on(join_all(&on_threads(), tasks)).unwrap();
        assert_eq!(results, (0..20).collect::<Vec<_>>());

        let broken: Vec<BoxFuture<'static, ()>> = vec![Box::pin(async { panic!("on purpose") })];
        assert!(block_on(join_all(&on_threads(), broken)).is_err());
    }
}
