//! Libtorch's part for GPUs, which is not linked.
//!
//! One program serves on CPU and on GPU pods: `libtorch_cuda.so` is opened when the first module asks
//! for a GPU, and registers its kernels with the rest of libtorch as it is. It is looked for where
//! the linker looks: the program's run path (libtorch's own folder), `LD_LIBRARY_PATH`, and the
//! system's folders.
//!
//! A GPU reports some errors late, and after some of them the process can use it no more: every
//! later call gives the same error. Libtorch throws one type for all of them, so the words of CUDA's
//! `cudaGetErrorString` tell which it was.

use std::sync::{Arc, OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

const LIBRARY: &str = "libtorch_cuda.so";

/// After these the CUDA context is gone: the documentation of `cudaError_t` sends each of them to a
/// new process.
const LOSES_CONTEXT: [&str; 12] = [
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "device-side assert triggered",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error",
    "unknown error",
];

/// Opens the library, once; another module finds it open.
pub(crate) fn load() -> Result<(), Arc<libloading::Error>> {
    static LOADED: OnceLock<Result<(), Arc<libloading::Error>>> = OnceLock::new();
    LOADED.get_or_init(|| open(LIBRARY)).clone()
}

fn open(library: &str) -> Result<(), Arc<libloading::Error>> {
    // SAFETY: libtorch's initializers are made to run in any thread, and only register what the
    // library holds; the caller names no symbol of it.
    let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) };
    // What it registered lives as long as the process, and so must the library.
    opened.map(std::mem::forget).map_err(Arc::new)
}

/// Whether an error of libtorch's, cut to its line, says that the process has lost its GPU.
pub(crate) fn is_broken(message: &str) -> bool {
    let told = message
        .split_once("CUDA error: ")
        .or_else(|| message.split_once("CUDA driver error: "));
    told.is_some_and(|(_, text)| LOSES_CONTEXT.iter().any(|lost| text.starts_with(lost)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_end_the_context_are_told_from_those_that_do_not() {
        for lost in LOSES_CONTEXT {
            assert!(is_broken(&format!("CUDA error: {lost}")), "{lost}");
        }
        assert!(is_broken(
            "RuntimeError: CUDA error: device-side assert triggered"
        ));
        for passing in [
            "CUDA out of memory. Tried to allocate 20.00 MiB.",
            "CUDA error: out of memory",
            "CUDA error: invalid argument",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "RuntimeError: misaligned address",
        ] {
            assert!(!is_broken(passing), "{passing}");
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = open("libtorch_no_such_part.so").unwrap_err();
        let chain = format!("{error:?} {error}");
        assert!(chain.contains("libtorch_no_such_part.so"), "{chain}");
    }
}
