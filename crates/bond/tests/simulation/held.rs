//! Whose memory it is: an allocator that counts the bytes that each end holds.
//!
//! A test binary that asks for it makes [`Counting`] its global allocator. Every allocation carries its owner in front, so
//! that it counts for whoever made it until it is freed, by whomever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// On whose behalf memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The test and the emulated network.
    Other,
    Sender,
    Receiver,
}

thread_local! {
    static OWNER: Cell<Owner> = const { Cell::new(Owner::Other) };
    // For each thread by itself: tests run side by side.
    static HELD_BYTES: [Cell<i64>; 3] = const { [Cell::new(0), Cell::new(0), Cell::new(0)] };
}

/// What `owner` takes in `work` is counted as its own.
pub fn by<T>(owner: Owner, work: impl FnOnce() -> T) -> T {
    let _before = Before(OWNER.replace(owner));
    work()
}

/// Puts the owner back, also when the work panics.
struct Before(Owner);

impl Drop for Before {
    fn drop(&mut self) {
        OWNER.set(self.0);
    }
}

/// Bytes that `owner` took in this thread and that nobody has freed; 0 without [`Counting`].
pub fn bytes(owner: Owner) -> i64 {
    HELD_BYTES.with(|held| held[owner as usize].get())
}

/// Puts the owner in front of every allocation.
pub struct Counting;

/// The allocation with room for its owner in front, and how much room that is.
fn with_owner(layout: Layout) -> Option<(Layout, usize)> {
    // A byte tells the owner; what follows stays aligned.
    let front = layout.align();
    let size = layout.size().checked_add(front)?;
    Some((Layout::from_size_align(size, front).ok()?, front))
}

fn count(owner: u8, bytes: i64) {
    // Gone while a thread ends.
    let _ = HELD_BYTES.try_with(|held| {
        let held = &held[usize::from(owner)];
        held.set(held.get() + bytes);
    });
}

// SAFETY: every call goes to the system allocator with a layout that depends on the caller's alone; what is handed out lies
// behind the owner's place, aligned as asked for and as long.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, front)) = with_owner(layout) else { return std::ptr::null_mut() };
        let owner = OWNER.try_with(Cell::get).unwrap_or(Owner::Other) as u8;
        // SAFETY: `whole` is not of size 0; the owner lies within it, and what follows is aligned.
        unsafe {
            let start = System.alloc(whole);
            if start.is_null() {
                return start;
            }
            start.write(owner);
            count(owner, layout.size() as i64);
            start.add(front)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some((whole, front)) = with_owner(layout) else { return };
        // SAFETY: `pointer` comes from `alloc` with this layout, so its owner is that far in front.
        unsafe {
            let start = pointer.sub(front);
            count(start.read(), -(layout.size() as i64));
            System.dealloc(start, whole);
        }
    }
}
