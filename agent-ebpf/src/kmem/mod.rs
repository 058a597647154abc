//! The only place that reads kernel memory.
//!
//! Offsets are read-only globals that user space fills from the kernel's BTF before loading, by the names given here; the
//! verifier then sees constants. [`MISSING`] stands for a field that this kernel does not have.

pub mod file;
pub mod object;
pub mod path;
pub mod socket;
pub mod task;

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// The offset of a field that the kernel does not have.
pub const MISSING: u64 = u64::MAX;

/// An address in the kernel that is only ever read through a helper that cannot fault; 0 is nowhere.
///
/// What cannot be read is 0, and so is what is read from there: a chain of pointers needs one check, at its end.
// verifier: an `Option` here becomes a register that one branch leaves unset ("R5 !read_ok"), seen on 6.18.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address(u64);

impl Address {
    /// The address that a hook or helper gave.
    #[inline(always)]
    pub fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a number.
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Whether this is nowhere.
    #[inline(always)]
    pub fn is_nowhere(self) -> bool {
        self.0 == 0
    }

    /// So many bytes further.
    #[inline(always)]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The address of a field; meaningless where the kernel lacks it.
    #[inline(always)]
    pub fn field(self, offset: &Global<u64>) -> Self {
        self.plus(offset.load())
    }

    /// The structure that has `self` as its field.
    #[inline(always)]
    pub fn container(self, offset: &Global<u64>) -> Self {
        Self(self.0.wrapping_sub(offset.load()))
    }

    /// The number at the address; 0 where the kernel has no such memory.
    #[inline(always)]
    pub fn read<T: Copy + Default>(self) -> T {
        let mut value = T::default();
        // SAFETY: the helper checks the address and writes size_of::<T>() bytes, zeros where it cannot read.
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, self.0 as *const c_void) };
        value
    }

    /// The number in a field; 0 where the kernel lacks it.
    #[inline(always)]
    pub fn value<T: Copy + Default>(self, offset: &Global<u64>) -> T {
        if offset.load() == MISSING { T::default() } else { self.field(offset).read() }
    }

    /// The structure that a field points to.
    #[inline(always)]
    pub fn follow(self, offset: &Global<u64>) -> Self {
        Self(self.value(offset))
    }
}

/// The same number, of which the verifier knows nothing: for what a loop carries from step to step, so that the steps look
/// alike to it.
#[inline(always)]
pub fn blurred(number: u64) -> u64 {
    Address::new(&raw const number as u64).read()
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
