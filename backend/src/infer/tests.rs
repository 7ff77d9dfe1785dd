//! What a transport may rely on.

use std::thread;

use aegis_protocol::Reason;

use super::*;

#[tokio::test]
async fn only_large_bodies_leave_the_worker() {
    let here = thread::current().id();
    let small = work(LARGE_BODY - 1, || thread::current().id()).await;
    assert_eq!(small.unwrap(), here);
    let large = work(LARGE_BODY, || thread::current().id()).await;
    assert_ne!(large.unwrap(), here);
}

#[tokio::test]
async fn a_panic_is_a_fault_and_not_a_drain() {
    let refused = work(LARGE_BODY, || panic!("bang")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::ModelError);
    assert_eq!(Refused::CutOff.reason(), Reason::Draining);
}
