//! mimalloc as the programs' allocator, asked by its short way.
//!
//! Rust tells an allocator the alignment of whatever it wants. The crate `mimalloc` passes it on in
//! every call, and mimalloc's call for aligned memory has a fast path for powers of two alone: most
//! other sizes are asked for with some bytes more, aligned by hand, and freed by a longer way, too
//! (microsoft/mimalloc issues 314 and 889). Seventeen allocations of a proxied request went there.
//! Its plain call aligns to 16 bytes whatever is not smaller, which is all that nearly any type
//! of Rust asks for.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// To how many bytes mimalloc aligns by itself (its `MI_MAX_ALIGN_SIZE`), where as many or more are
/// asked for.
const NATURAL: usize = 16;

/// The allocator: `#[global_allocator] static ALLOCATOR: Allocator = Allocator;`
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// Whether mimalloc aligns this without being told to.
const fn is_natural(size: usize, align: usize) -> bool {
    align <= NATURAL && align <= size
}

// SAFETY: mimalloc gives memory of at least the size that it is asked for, or null, and unwinds
// never. It is aligned as the layout says: by itself, as `is_natural` tells, or as it is told to.
// Whatever of these calls gave memory, `mi_free` takes it back, and either way of growing it keeps
// what is in it.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: it may be called with any size and with any power of two, which a layout has.
        let memory = unsafe {
            if is_natural(size, align) {
                mi_malloc(size)
            } else {
                mi_malloc_aligned(size, align)
            }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        let memory = unsafe {
            if is_natural(size, align) {
                mi_zalloc(size)
            } else {
                mi_zalloc_aligned(size, align)
            }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller has the memory from here, and has not given it back.
        let memory = unsafe {
            if is_natural(size, align) {
                mi_realloc(memory.cast(), size)
            } else {
                mi_realloc_aligned(memory.cast(), size, align)
            }
        };
        memory.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller has the memory from here, and gives it back once.
        unsafe { mi_free(memory.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Memory that is filled with one byte, and given back when dropped.
    struct Block {
        memory: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl Block {
        fn new(size: usize, align: usize, byte: u8, zeroed: bool) -> Self {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            // SAFETY: no size is zero here.
            let memory = unsafe {
                if zeroed {
                    Allocator.alloc_zeroed(layout)
                } else {
                    Allocator.alloc(layout)
                }
            };
            let mut block = Self {
                memory,
                layout,
                byte,
            };
            block.is_sound();
            if zeroed {
                assert!(block.bytes().iter().all(|byte| *byte == 0), "{layout:?}");
            }
            block.bytes().fill(byte);
            block
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: so much was given, and the block alone has it. It is written to before it is
            // read, but for what is zeroed.
            unsafe { slice::from_raw_parts_mut(self.memory, self.layout.size()) }
        }

        fn is_sound(&self) {
            assert!(!self.memory.is_null(), "{:?}", self.layout);
            assert!(
                self.memory.addr().is_multiple_of(self.layout.align()),
                "{:?} at {:?}",
                self.layout,
                self.memory
            );
        }

        fn resize(&mut self, size: usize) {
            let kept = size.min(self.layout.size());
            // SAFETY: it is from there, and no size is zero here.
            self.memory = unsafe { Allocator.realloc(self.memory, self.layout, size) };
            let align = self.layout.align();
            self.layout = Layout::from_size_align(size, align).expect("a layout");
            self.is_sound();
            let byte = self.byte;
            assert!(self.bytes()[..kept].iter().all(|kept| *kept == byte));
            self.bytes().fill(byte);
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            let byte = self.byte;
            assert!(
                self.bytes().iter().all(|kept| *kept == byte),
                "others wrote into {:?}",
                self.layout
            );
            // SAFETY: it is from there, and this is the last that is heard of it.
            unsafe { Allocator.dealloc(self.memory, self.layout) }
        }
    }

    fn sizes() -> impl Strategy<Value = usize> {
        prop_oneof![1_usize..130, 1_usize..70_000]
    }

    proptest! {
        #[test]
        fn memory_is_aligned_and_nobody_elses(
            asked in vec((sizes(), 0_u32..13, any::<bool>(), sizes()), 1..60),
        ) {
            let mut blocks = Vec::new();
            for (number, (size, align, zeroed, then)) in asked.into_iter().enumerate() {
                let byte = u8::try_from(number % 255 + 1).unwrap_or(1);
                let mut block = Block::new(size, 1 << align, byte, zeroed);
                if number % 3 == 0 {
                    block.resize(then);
                }
                if number % 4 != 1 {
                    blocks.push(block);
                }
            }
        }
    }

    #[test]
    fn every_small_size_is_as_aligned_as_may_be_asked_without_telling() {
        for size in 1..=4_096 {
            for align in [1, 2, 4, 8, 16] {
                if is_natural(size, align) {
                    // Several: the first of a page is aligned anyhow.
                    let _blocks = [1, 2, 3].map(|byte| Block::new(size, align, byte, false));
                }
            }
        }
    }
}
