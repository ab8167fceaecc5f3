//! [`Progress`]: how a long run tells how far it is, and learns that it is to stop.

use std::ops::ControlFlow;

/// What a long run, such as a scan or an import, tells of its progress.
///
/// A closure is one: `|done, total| ControlFlow::Continue(())`; `()` is one that hears nothing.
/// The run stops at the next safe place after a [`ControlFlow::Break`]; what it did stays.
///
/// ```
/// use std::ops::ControlFlow;
/// use crm_core::engine::Progress;
///
/// let stop_at_ten = |done: u64, _total: Option<u64>| {
///     if done < 10 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
/// };
/// assert!(stop_at_ten.report(3, Some(100)).is_continue());
/// assert!(stop_at_ten.report(10, Some(100)).is_break());
/// assert!(().report(3, None).is_continue());
/// ```
pub trait Progress: Send + Sync {
    /// So many records are done, of so many if that is known.
    fn report(&self, done: u64, total: Option<u64>) -> ControlFlow<()>;
}

impl Progress for () {
    fn report(&self, _done: u64, _total: Option<u64>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: Fn(u64, Option<u64>) -> ControlFlow<()> + Send + Sync> Progress for F {
    fn report(&self, done: u64, total: Option<u64>) -> ControlFlow<()> {
        self(done, total)
    }
}
