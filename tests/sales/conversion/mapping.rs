//! Pairs of fields.

use crm_engine::leads::{ConversionPlan, ConversionTarget, LeadConversionMapping};

use super::{bill, faults, lead, scene};

/// C-006: pairs of fields fit the schemas, and every fault is told.
#[tokio::test]
async fn pairs_of_fields_fit_the_schemas() {
    let (_, session) = scene().await;
    let wrong = LeadConversionMapping {
        source_field: Some("nothing".into()),
        ..LeadConversionMapping::new(ConversionTarget::Deal, "lead_score")
    };
    let mut pairs = session.records::<LeadConversionMapping>();
    let error = pairs.create(wrong).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("target_field", "unknown_field"),
            ("source_field", "unknown_field")
        ]
    );
    let grade = LeadConversionMapping {
        source_field: Some("grade".into()),
        ..LeadConversionMapping::new(ConversionTarget::Contact, "department")
    };
    let grade = pairs.create(grade).await.unwrap();
    let mapping = session.leads().conversion_mapping().await.unwrap();
    assert_eq!(
        mapping.source(ConversionTarget::Contact, "department"),
        Some("grade")
    );
    session
        .records::<LeadConversionMapping>()
        .delete(grade.id)
        .await
        .unwrap();
    let mapping = session.leads().conversion_mapping().await.unwrap();
    assert_eq!(mapping, crm_engine::leads::FieldMapping::standard());
    // A value that does not fit is told where it does not.
    let code = LeadConversionMapping {
        source_field: Some("custom_fields.printers".into()),
        ..LeadConversionMapping::new(ConversionTarget::Account, "website")
    };
    session
        .records::<LeadConversionMapping>()
        .create(code)
        .await
        .unwrap();
    let id = lead(&session, bill()).await;
    let error = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap_err();
    assert_eq!(faults(&error)[0].0, "account.website");
}
