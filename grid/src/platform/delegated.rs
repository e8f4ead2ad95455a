//! What every runtime of this crate leaves to tokio's: most of openraft's interface.

/// The items of an `AsyncRuntime` that go to the [`TokioRuntime`](openraft_rt_tokio::TokioRuntime) in
/// `self.0` unchanged. What is not here is what the runtimes differ in: random numbers, timers that end
/// at a moment, blocking work.
macro_rules! delegated_to_tokio {
    () => {
        type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
        type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
        type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
        type Instant = <TokioRuntime as AsyncRuntime>::Instant;
        type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
        type Timeout<R, T: Future<Output = R> + OptionalSend> =
            <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
        type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
        type Watch = <TokioRuntime as AsyncRuntime>::Watch;
        type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
        type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

        fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
        where
            T: Future + OptionalSend + 'static,
            T::Output: OptionalSend + 'static,
        {
            TokioRuntime::spawn(future)
        }

        fn sleep(duration: Duration) -> Self::Sleep {
            TokioRuntime::sleep(duration)
        }

        fn timeout<R, F: Future<Output = R> + OptionalSend>(
            duration: Duration,
            future: F,
        ) -> Self::Timeout<R, F> {
            TokioRuntime::timeout(duration, future)
        }

        fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
            deadline: Self::Instant,
            future: F,
        ) -> Self::Timeout<R, F> {
            TokioRuntime::timeout_at(deadline, future)
        }

        fn is_panic(join_error: &Self::JoinError) -> bool {
            TokioRuntime::is_panic(join_error)
        }

        fn new(threads: usize) -> Self {
            Self(TokioRuntime::new(threads))
        }

        fn block_on<F, T>(&mut self, future: F) -> T
        where
            F: Future<Output = T>,
        {
            self.0.block_on(future)
        }
    };
}

pub(super) use delegated_to_tokio;
