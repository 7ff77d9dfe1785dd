//! Finds libtorch, and tells the linker and the dependents where it lies.
//!
//! `LIBTORCH` comes from `.cargo/config.toml`, unless the caller exported it, as a container build
//! does. torch-sys links against `$LIBTORCH/lib` but leaves no run path in the programs, and a
//! link argument of a library reaches only that package's own tests and examples. So the folder is
//! passed on as metadata (`links` in `Cargo.toml`): a package that links this crate into a program
//! reads `DEP_AEGIS_TORCH_LIB_DIR` in its own build script and sets the same run path.

use std::env;
use std::path::{Path, PathBuf};

/// A library without which nothing links.
const WITNESS: &str = "libtorch_cpu.so";

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Some(lib) = env::var_os("LIBTORCH").map(|dir| PathBuf::from(dir).join("lib")) else {
        println!("cargo::error=LIBTORCH is not set: run cargo inside the workspace");
        return;
    };
    let witness = lib.join(WITNESS);
    println!("cargo::rerun-if-changed={}", witness.display());
    if !witness.exists() {
        println!(
            "cargo::error=no libtorch at {}: run `make setup`",
            lib.display()
        );
        return;
    }
    let lib = absolute(&lib);
    println!("cargo::metadata=LIB_DIR={}", lib.display());
    // For this package's own tests and examples.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// The folder without `..` and links, as it will stand in the programs.
fn absolute(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned())
}
