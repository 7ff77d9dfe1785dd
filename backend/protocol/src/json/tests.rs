//! The codec as a client meets it: bodies in, values or error texts out.

mod faults;
mod forms;
mod properties;
