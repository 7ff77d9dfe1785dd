//! The proxy's program: see [`aegis_proxy::cli`].

use std::process::ExitCode;

use aegis_allocator::Allocator;

/// Measured on the bare framework: a fifth less CPU a request than with the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    aegis_proxy::cli::main()
}
