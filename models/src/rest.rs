//! Rests while loading. A version that is loaded beside others that serve takes caches and the memory's time from them, whatever the
//! priority of its thread; so whoever loads may say what is to be done every few milliseconds, as to sleep.

use std::cell::RefCell;

thread_local! {
    static REST: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Does `work`, which loads networks and checks them, and calls `rest` after every few milliseconds of what this thread does of it.
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
