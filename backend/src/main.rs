//! The program: see the library for what it does, and [`aegis_backend::cli`] for how to call it.

use std::process::ExitCode;

use aegis_allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    aegis_backend::cli::main()
}
