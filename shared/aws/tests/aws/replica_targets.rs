//! How tables of other regions and accounts are reached: where the request goes, as whom, and what is said if a role is refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::UnixMillis;
use highwater_domain::load_targets::LoadTargets as _;
use highwater_domain::replica_targets::{ReplicaTargets as _, TargetAccess};

use crate::loopback::{Answer, Asked, Loopback, clients};

const ROLE: &str = "arn:aws:iam::444455556666:role/replica";

fn access(region: Option<&str>, role: Option<&str>) -> TargetAccess {
    TargetAccess {
        region: region.map(str::to_owned),
        role: role.map(str::to_owned),
    }
}

/// What STS answers: credentials that expire `lasting` from now.
fn session(key: &str, lasting: Duration) -> Answer {
    let until = SystemTime::now() + lasting;
    let until = until.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let until = UnixMillis(u64::try_from(until).unwrap()).to_rfc3339();
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><AssumedRoleId>A:s</AssumedRoleId>\
         <Arn>arn:aws:sts::444455556666:assumed-role/replica/s</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
         <SessionToken>token-of-{key}</SessionToken><Expiration>{until}</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    );
    Answer::new(200, body).header("content-type", "text/xml")
}

fn refusal(status: u16, code: &str) -> Answer {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>told so</Message></Error></ErrorResponse>"
    );
    Answer::new(status, body).header("content-type", "text/xml")
}

fn is_sts(asked: &Asked) -> bool {
    !asked.headers.contains_key("x-amz-target")
}

/// STS and DynamoDB at one endpoint, as local engines have them.
async fn aws(sts: impl Fn() -> Answer + Send + Sync + 'static) -> Loopback {
    Loopback::start(move |asked| {
        if is_sts(asked) {
            return sts();
        }
        Answer::dynamodb(
            r#"{"Table":{"TableName":"orders","TableId":"t-1","TableStatus":"ACTIVE"}}"#,
        )
    })
    .await
}

#[tokio::test]
async fn a_role_is_assumed_once_under_a_session_name_that_says_what_for() {
    let aws = aws(|| session("ASSUMED", Duration::from_hours(1))).await;
    let targets = clients(&aws.url).await.replica_targets();
    let access = access(Some("eu-west-1"), Some(ROLE));
    for _ in 0..2 {
        let ports = targets.open(&access).await.unwrap();
        assert_eq!(
            ports.describer.table_id("orders").await.unwrap().unwrap(),
            "t-1"
        );
    }
    let load = targets.open_load(&access).await.unwrap();
    assert_eq!(
        (load.place.region.as_str(), load.place.account.as_deref()),
        ("eu-west-1", Some("444455556666"))
    );
    assert!(load.own_endpoint);
    load.describer.table_id("orders").await.unwrap();

    let (sts, dynamodb): (Vec<_>, Vec<_>) = aws.asked().into_iter().partition(is_sts);
    assert_eq!((sts.len(), dynamodb.len()), (1, 3));
    let body = sts[0].text();
    for part in [
        "Action=AssumeRole",
        "RoleSessionName=highwater-replica",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A444455556666%3Arole%2Freplica",
    ] {
        assert!(body.split('&').any(|it| it == part), "{body}");
    }
    let signed = &sts[0].headers["authorization"];
    assert!(signed.contains("/eu-north-1/sts/"), "{signed}");
    for asked in dynamodb {
        let signed = &asked.headers["authorization"];
        assert!(
            signed.contains("Credential=ASSUMED/") && signed.contains("/eu-west-1/dynamodb/"),
            "{signed}"
        );
        assert_eq!(asked.headers["x-amz-security-token"], "token-of-ASSUMED");
    }
}

#[tokio::test]
async fn a_session_is_renewed_before_it_expires() {
    // Whoever has five seconds left has too little for one more request.
    let aws = aws(|| session("SHORT", Duration::from_secs(5))).await;
    let targets = clients(&aws.url).await.replica_targets();
    let ports = targets.open(&access(None, Some(ROLE))).await.unwrap();
    for asked in 1..=2 {
        ports.describer.table_id("orders").await.unwrap();
        assert_eq!(aws.asked().iter().filter(|it| is_sts(it)).count(), asked);
    }
}

#[tokio::test]
async fn a_region_alone_is_reached_with_the_credentials_in_use() {
    let aws = aws(|| refusal(403, "AccessDenied")).await;
    let targets = clients(&aws.url).await.replica_targets();
    for (region, signed_for) in [
        (Some("us-east-2"), "us-east-2"),
        (Some("eu-north-1"), "eu-north-1"),
        (None, "eu-north-1"),
    ] {
        let ports = targets.open(&access(region, None)).await.unwrap();
        ports.describer.table_id("orders").await.unwrap();
        let asked = aws.asked();
        let signed = &asked.last().unwrap().headers["authorization"];
        assert!(
            signed.contains(&format!("/{signed_for}/dynamodb/")),
            "{signed}"
        );
    }
    assert!(!aws.asked().iter().any(is_sts));
}

#[tokio::test]
async fn a_refused_role_is_named_and_what_passes_can_be_tried_again() {
    for (status, code, kind) in [
        (403, "AccessDenied", FailureKind::Denied),
        (500, "InternalFailure", FailureKind::Transient),
        (400, "Throttling", FailureKind::Throttled),
    ] {
        let aws = aws(move || refusal(status, code)).await;
        let clients = clients(&aws.url).await.with_retries(0);
        let targets = clients.replica_targets();
        let ports = targets.open(&access(None, Some(ROLE))).await.unwrap();
        let failure = ports.describer.table_id("orders").await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(
            failure.message.contains(ROLE) && failure.message.contains(code),
            "{failure}"
        );
        assert_eq!(aws.asked().iter().filter(|it| !is_sts(it)).count(), 0);
    }
}

#[tokio::test]
async fn what_is_no_role_or_no_region_is_refused_by_name() {
    let targets = clients("http://127.0.0.1:1").await.replica_targets();
    for (place, names) in [
        (access(None, Some("replica")), "replica"),
        (access(Some("evil.example.com/"), None), "evil.example.com/"),
        (access(Some(""), None), ""),
    ] {
        let failure = targets.open(&place).await.unwrap_err();
        assert_eq!(
            (failure.kind, failure.resource.as_str()),
            (FailureKind::Invalid, names)
        );
    }
}

#[tokio::test]
async fn an_endpoint_of_one_region_is_not_asked_for_another() {
    let settings = |url: &str| ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some(url.into()),
        ..ConnectionSettings::default()
    };
    let elsewhere = access(Some("eu-west-1"), None);
    for (url, own) in [
        (
            "https://vpce-1.dynamodb.eu-north-1.vpce.amazonaws.com",
            false,
        ),
        ("http://localhost:8000", true),
        ("https://dynamodb.example.com", true),
    ] {
        let clients = Clients::connect(&settings(url)).await.unwrap();
        let moved = clients.at(&elsewhere).unwrap();
        assert_eq!(
            (moved.region(), moved.has_own_endpoint()),
            ("eu-west-1", own),
            "{url}"
        );
        assert_eq!(moved.dynamodb_url(), Some(url).filter(|_| own));
    }
}
