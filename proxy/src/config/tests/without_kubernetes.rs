//! A build that knows nothing of Kubernetes says so.
#![cfg(not(feature = "kubernetes"))]

use super::assert_faults;

#[test]
fn a_service_is_refused_with_what_is_missing() {
    assert_faults(
        "[models.m.versions.1]\nweight = 1\nkubernetes = { service = \"digits\" }\n",
        &[(
            3,
            "models.m.versions.1.kubernetes.service",
            "without the cargo feature `kubernetes`",
        )],
    );
}
