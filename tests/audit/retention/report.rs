//! The report of what is held and why.

use crm_engine::audit::{AuditCategory, Window};
use crm_engine::prelude::*;
use crm_engine::privacy::{
    ConsentEvidence, DeletionLog, DeletionMethod, DeletionReason, Grant, LawfulBasis,
    ProcessingActivity,
};

use super::{moment, timed};
use crate::common::tenant;

/// C-063, C-105, R-061: the report has the register, the policies, and counts over all categories.
#[tokio::test]
async fn the_report_tells_what_is_held_and_why() {
    let (crm, clock) = timed("2026-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    session.retention().install_defaults().await.unwrap();
    let unsaid = ProcessingActivity {
        is_transferred: true,
        lawful_basis: LawfulBasis::LegitimateInterests,
        ..ProcessingActivity::new("Newsletter", "To tell of new products")
    };
    let refused = session
        .processing_activities()
        .create(unsaid)
        .await
        .unwrap_err();
    let mut faults: Vec<_> = refused
        .field_errors()
        .iter()
        .map(|fault| fault.path.as_str())
        .collect();
    faults.sort_unstable();
    assert_eq!(faults, ["legitimate_interests", "transfer_safeguards"]);
    for (number, basis) in LawfulBasis::ALL.iter().enumerate() {
        let activity = ProcessingActivity {
            lawful_basis: *basis,
            legitimate_interests: Some("To keep in touch".into()),
            data_categories: vec!["name".into()],
            ..ProcessingActivity::new(format!("Activity {number}"), "To sell")
        };
        session
            .processing_activities()
            .create(activity)
            .await
            .unwrap();
    }
    let ada = session
        .contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap();
    let bob = session
        .contacts()
        .create(Contact::named("Bob", "Builder"))
        .await
        .unwrap();
    session.contacts().delete(bob.id).await.unwrap();
    let grant = |name: &str| Grant::new(name.parse().unwrap(), ConsentEvidence::default());
    session
        .consents()
        .grant(ada.id, grant("marketing_email"))
        .await
        .unwrap();
    session
        .consents()
        .grant(ada.id, grant("marketing_phone"))
        .await
        .unwrap();
    let kind = "marketing_phone".parse().unwrap();
    session
        .consents()
        .withdraw(ada.id, &kind, Default::default())
        .await
        .unwrap();
    // What an erasure and an access leave, one in the period and one before it.
    for day in ["2026-02-01T00:00:00Z", "2026-04-01T00:00:00Z"] {
        clock.set(moment(day));
        let mut work = session.begin();
        let entry = DeletionLog::new(
            "contact",
            bob.id.uuid(),
            DeletionMethod::Anonymize,
            DeletionReason::ErasureRequest,
            3,
            9,
        );
        work.append_entry(entry).unwrap();
        let commit = work.commit_stamp().id;
        let read = AuditEvent::new(
            commit,
            AuditKind::Read,
            AuditCategory::DataChange,
            "contact",
            ada.id.uuid(),
            1,
        );
        work.append_entry(read).unwrap();
        work.commit().await.unwrap();
    }
    let quarter = Window::new(
        moment("2026-03-01T00:00:00Z"),
        moment("2026-06-01T00:00:00Z"),
    );
    let report = session.privacy().gdpr_report(quarter).await.unwrap();
    let bases: Vec<_> = report
        .activities
        .iter()
        .map(|activity| activity.lawful_basis)
        .collect();
    assert_eq!(bases, LawfulBasis::ALL);
    assert_eq!(report.retention_policies.len(), 4);
    let consents: Vec<_> = report
        .consents
        .iter()
        .map(|one| (one.consent_type.as_str(), one.status.as_str(), one.count))
        .collect();
    assert_eq!(
        consents,
        [
            ("marketing_email", "granted", 1),
            ("marketing_phone", "withdrawn", 1)
        ]
    );
    let contacts = &report.persons[0];
    assert_eq!(
        (contacts.live, contacts.archived, contacts.deleted),
        (1, 0, 1)
    );
    let held = report
        .held
        .iter()
        .find(|held| held.object == "contact")
        .unwrap();
    assert_eq!(held.records, 2);
    assert!(held.personal_fields.contains(&"email".to_owned()));
    assert!(report.held.iter().any(|held| held.object == "auth_event"));
    assert_eq!((report.erasures, report.access_requests), (1, 1));
    assert_eq!((report.gone[0].entries, report.gone[0].records), (1, 3));
    let json = report.to_json();
    assert_eq!(json["erasures"], 1);
    assert!(
        !json.to_string().contains("Lovelace"),
        "the report tells of no person"
    );
}
