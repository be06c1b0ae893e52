//! Rests while loading. A version that is loaded beside others that serve takes caches and the memory's time from them, whatever the
//! priority of its thread; so whoever loads may say what is to be done every few milliseconds, as to sleep.

use std::cell::RefCell;

thread_local! {
    static REST: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Does `work`, which loads networks and checks them, and calls `rest` after every few milliseconds of what this thread does of it.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// let rests = Rc::new(Cell::new(0));
/// let counted = Rc::clone(&rests);
/// let missing = vitrine_models::resting(
///     move || counted.set(counted.get() + 1),
///     || vitrine_models::TextEncoder::load("no/such/folder".as_ref(), &vitrine_models::DeviceSpec::Cpu),
/// );
/// assert!(missing.is_err() && rests.get() == 0);
/// ```
pub fn resting<T>(rest: impl Fn() + 'static, work: impl FnOnce() -> T) -> T {
    /// Ends the rests however the work ends.
    struct Awake;

    impl Drop for Awake {
        fn drop(&mut self) {
            REST.take();
        }
    }

    REST.replace(Some(Box::new(rest)));
    let _awake = Awake;
    work()
}

/// A moment to rest.
pub(crate) fn rest() {
    REST.with_borrow(|rest| rest.iter().for_each(|rest| rest()));
}
