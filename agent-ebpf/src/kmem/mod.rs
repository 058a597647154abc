//! The only place that reads kernel memory.
//!
//! Offsets are read-only globals that user space fills from the kernel's BTF before loading, by the names given here; the
//! verifier then sees constants. [`MISSING`] stands for a field that this kernel does not have.

pub mod file;
pub mod path;
pub mod task;

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;

/// The offset of a field that the kernel does not have.
pub const MISSING: u64 = u64::MAX;

/// A pointer into the kernel that is only ever read through a helper that cannot fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address(u64);

impl Address {
    /// The address that a hook or helper gave.
    #[inline(always)]
    pub fn new(address: u64) -> Option<Self> {
        if address == 0 { None } else { Some(Self(address)) }
    }

    /// The address as a number.
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The address of a field.
    #[inline(always)]
    pub fn field(self, offset: &Global<u64>) -> Option<Self> {
        let offset = offset.load();
        if offset == MISSING { None } else { Some(Self(self.0.wrapping_add(offset))) }
    }

    /// The structure that has `self` as its field.
    #[inline(always)]
    pub fn container(self, offset: &Global<u64>) -> Option<Self> {
        let offset = offset.load();
        if offset == MISSING { None } else { Some(Self(self.0.wrapping_sub(offset))) }
    }

    /// The value at the address; `None` where the kernel has no such memory.
    #[inline(always)]
    pub fn read<T: Copy>(self) -> Option<T> {
        // SAFETY: the helper checks the address and copies; every T used here is an integer.
        unsafe { bpf_probe_read_kernel(self.0 as *const T) }.ok()
    }

    /// The value of a field.
    #[inline(always)]
    pub fn value<T: Copy>(self, offset: &Global<u64>) -> Option<T> {
        self.field(offset)?.read()
    }

    /// The structure that a field points to.
    #[inline(always)]
    pub fn follow(self, offset: &Global<u64>) -> Option<Self> {
        Self::new(self.value(offset)?)
    }
}

macro_rules! offsets {
    ($($name:ident: $field:literal),+ $(,)?) => {
        $(
            #[doc = $field]
            #[unsafe(no_mangle)]
            pub static $name: aya_ebpf::Global<u64> = aya_ebpf::Global::new($crate::kmem::MISSING);
        )+
    };
}
pub(crate) use offsets;
