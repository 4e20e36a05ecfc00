//! Goal: a device gets its identity only from the relay named by its claim link, and keeps it private.
//! Method: the real enrolment call against a real TLS server with a CA made here.

#![allow(clippy::unwrap_used, reason = "test support")]

mod support;

use firmware::data_dir::DataDir;
use firmware::enrolment::{EnrolError, enrol};
use firmware::identity::{DeviceKey, Identity, IdentityError};
use protocol::enrolment::{EnrolRefusal, EnrolRefusalReason, EnrolResponse};
use std::os::unix::fs::PermissionsExt as _;
use support::{Authority, CODE, Relay};
use tempfile::TempDir;

fn device() -> (TempDir, DataDir, DeviceKey) {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::create(&folder.path().join("data")).unwrap();
    let key = DeviceKey::load_or_create(&data.identity()).unwrap();
    (folder, data, key)
}

fn ok(response: &EnrolResponse) -> (u16, Vec<u8>) {
    (200, serde_json::to_vec(response).unwrap())
}

#[tokio::test]
async fn a_device_enrols_and_finds_its_identity_again() {
    let (_folder, data, key) = device();
    let relay = Relay::new().await;
    let link = relay.claim_link();
    let (outcome, request) =
        tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|request| ok(&relay.response(request))));
    let identity = outcome.unwrap();
    assert_eq!(identity.device, relay.device);
    let request = request.unwrap();
    assert_eq!((request.claim_code.reveal(), request.board.as_str()), (CODE, "bench"));
    assert!(!request.csr_pem.contains("PRIVATE"));

    let again = Identity::load(&data.identity(), &key).unwrap().unwrap();
    assert_eq!((again.device, again.broker_port), (relay.device.clone(), relay.broker_address().port()));
    for file in ["device.key", "device.pem", "ca.pem", "device.json"] {
        let mode = std::fs::metadata(data.identity().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_relay_with_another_authority_is_refused_before_the_code_is_told() {
    let (_folder, data, key) = device();
    let relay = Relay::new().await;
    let mut link = relay.claim_link();
    link.ca_fingerprint = Authority::new().fingerprint();
    let (outcome, request) =
        tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|request| ok(&relay.response(request))));
    assert!(matches!(outcome, Err(EnrolError::PeerWrongAuthority)), "{outcome:?}");
    assert!(request.is_none(), "the claim code was sent to a stranger");
    assert!(Identity::load(&data.identity(), &key).unwrap().is_none());
}

#[tokio::test]
async fn a_wrong_clock_does_not_hinder_and_a_wrong_host_name_does() {
    let (_folder, data, key) = device();
    // Valid long ago, or far from now: a device without a clock cannot tell.
    for years in [(2001, 2002), (2080, 2090)] {
        let relay = Relay { years, ..Relay::new().await };
        let link = relay.claim_link();
        let (outcome, _) =
            tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|request| ok(&relay.response(request))));
        assert!(outcome.is_ok(), "{years:?}: {outcome:?}");
    }
    let relay = Relay::new().await;
    let link = protocol::enrolment::ClaimLink { host: "localhost".to_owned(), ..relay.claim_link() };
    let (outcome, request) =
        tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|request| ok(&relay.response(request))));
    assert!(matches!(outcome, Err(EnrolError::PeerTls { .. })), "{outcome:?}");
    assert!(request.is_none());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_relays_words() {
    let (_folder, data, key) = device();
    let relay = Relay::new().await;
    let link = relay.claim_link();
    let refusal = EnrolRefusal {
        reason: EnrolRefusalReason::ClaimRefused,
        detail: "this code is used up; make a new one in the dashboard".to_owned(),
    };
    let body = serde_json::to_vec(&refusal).unwrap();
    let (outcome, _) = tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|_| (403, body)));
    let error = outcome.unwrap_err();
    assert!(matches!(&error, EnrolError::Refused { .. }), "{error:?}");
    assert_eq!(error.to_string(), refusal.detail);
    assert!(!data.identity().join("device.json").exists());
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_not_installed() {
    let (_folder, data, key) = device();
    let relay = Relay::new().await;
    let link = relay.claim_link();
    let foreign = rcgen::KeyPair::generate().unwrap();
    let foreign_request = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&foreign).unwrap();
    let foreign_request = foreign_request.pem().unwrap();

    let (outcome, _) = tokio::join!(
        enrol(&data, &link, &key, "bench"),
        relay.enrol_once(|request| ok(&EnrolResponse {
            certificate_pem: relay.authority.sign(&foreign_request, "van-7"),
            ..relay.response(request)
        }))
    );
    let mismatch = |outcome: &Result<_, _>, what| matches!(outcome, Err(EnrolError::Identity(IdentityError::Mismatch { what: got })) if *got == what);
    assert!(mismatch(&outcome, "key"), "{outcome:?}");

    let (outcome, _) = tokio::join!(
        enrol(&data, &link, &key, "bench"),
        relay.enrol_once(|request| ok(&EnrolResponse { device: "other".parse().unwrap(), ..relay.response(request) }))
    );
    assert!(mismatch(&outcome, "id"), "{outcome:?}");

    let (outcome, _) = tokio::join!(
        enrol(&data, &link, &key, "bench"),
        relay.enrol_once(|request| ok(&EnrolResponse { ca_pem: Authority::new().pem, ..relay.response(request) }))
    );
    assert!(matches!(outcome, Err(EnrolError::PeerWrongAuthority)), "{outcome:?}");

    for (status, body) in [(200, &b"nonsense"[..]), (500, b""), (200, b"{}")] {
        let (outcome, _) =
            tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|_| (status, body.to_vec())));
        assert!(matches!(outcome, Err(EnrolError::PeerAnswer { .. })), "{outcome:?}");
    }
    assert!(!data.identity().join("device.json").exists());
}

#[tokio::test]
async fn an_absent_relay_is_named() {
    let (_folder, data, key) = device();
    let relay = Relay::new().await;
    let link = relay.claim_link();
    drop(relay);
    let error = enrol(&data, &link, &key, "bench").await.unwrap_err();
    assert!(matches!(&error, EnrolError::PeerUnreachable { port, .. } if *port == link.port), "{error:?}");
}

#[tokio::test]
async fn a_damaged_identity_says_to_enrol_again() {
    let (_folder, data, key) = device();
    let relay = Relay::new().await;
    let link = relay.claim_link();
    let (outcome, _) =
        tokio::join!(enrol(&data, &link, &key, "bench"), relay.enrol_once(|request| ok(&relay.response(request))));
    outcome.unwrap();
    let whole = std::fs::read(data.identity().join("device.pem")).unwrap();
    std::fs::write(data.identity().join("device.pem"), &whole[..whole.len() / 2]).unwrap();
    let error = Identity::load(&data.identity(), &key).unwrap_err().to_string();
    assert!(error.contains("device.pem") && error.contains("enrol again"), "{error}");
}
