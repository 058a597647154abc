//! Cordon's kernel half: read what a task is about to do, look it up in the image, emit, return.
//!
//! Mechanism only. What is listed, what blocks, until when and for whom is compiled by user space into the image and
//! [`agent_common::wire::Config`]; where kernel fields are is filled in from BTF ([`kmem`]).
#![no_std]
#![no_main]
#![allow(internal_features, reason = "atomic_xadd is the only atomic addition that the BPF target has")]
#![feature(asm_experimental_arch, core_intrinsics)]

mod clock;
mod emit;
mod hooks;
mod image;
mod kmem;
mod maps;

/// GPL-compatible: the kernel asks for it before it lends tracing helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // A program that could reach this is rejected by the verifier, so the loop never runs.
    loop {}
}
