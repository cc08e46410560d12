//! Work that blocks, beside the tasks that don't.

/// What the work comes to; `interrupted` where the runtime ends before it has begun.
pub(crate) async fn on_thread<T: Send + 'static, E: Send + 'static>(
    interrupted: E,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_cancelled) => Err(interrupted),
    }
}
