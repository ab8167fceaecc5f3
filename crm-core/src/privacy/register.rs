//! [`ProcessingActivity`]: the register of what personal data is processed for (C-063).

use super::{LawfulBasis, RetentionPolicy};
use crate::Id;
use crate::error::{Faults, codes};
use crate::schema::Entity;
use crate::value::EmailAddress;

/// One entry of the register of processing activities: Article 30 of the GDPR (C-063, R-061).
///
/// ```
/// use crm_core::privacy::{LawfulBasis, ProcessingActivity};
///
/// let newsletter = ProcessingActivity {
///     lawful_basis: LawfulBasis::Consent,
///     data_categories: vec!["name".into(), "e-mail address".into()],
///     person_categories: vec!["interested persons".into()],
///     ..ProcessingActivity::new("Newsletter", "To tell of new products")
/// };
/// assert!(newsletter.is_active);
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "processing_activity",
    table = "processing_activities",
    unique(name; ignore_case, live),
    check = check_activity
)]
pub struct ProcessingActivity {
    /// Name.
    #[field(required, max_len = 200, searchable)]
    pub name: String,
    /// What it is for.
    #[field(required, max_len = 2000, multiline)]
    pub purpose: String,
    /// What allows it: one of the six bases of Article 6 (R-061).
    pub lawful_basis: LawfulBasis,
    /// What outweighs the interests of the person, where that is the basis.
    #[field(multiline)]
    pub legitimate_interests: Option<String>,
    /// Which kinds of data are processed, such as `name` or `telephone number`.
    pub data_categories: Vec<String>,
    /// Whose, such as `customers` or `applicants`.
    pub person_categories: Vec<String>,
    /// Who gets to see the data.
    pub recipients: Vec<String>,
    /// Whether data goes to a country outside of the law's reach.
    pub is_transferred: bool,
    /// Where to, and what protects it there: needed if data is transferred.
    #[field(multiline)]
    pub transfer_safeguards: Option<String>,
    /// For how long the data is kept, in words.
    #[field(multiline)]
    pub retention: Option<String>,
    /// The policy that sees to it.
    #[field(references = "retention_policy", on_delete = "set_null", indexed)]
    pub retention_policy_id: Option<Id<RetentionPolicy>>,
    /// What protects the data: technical and organisational measures.
    #[field(multiline)]
    pub measures: Option<String>,
    /// Who is responsible.
    #[field(max_len = 200)]
    pub controller: Option<String>,
    /// How to reach who is responsible.
    #[field(personal)]
    pub controller_email: Option<EmailAddress>,
    /// Whether it is still done.
    #[field(default = true)]
    pub is_active: bool,
}

fn check_activity(activity: &ProcessingActivity, faults: &mut Faults) {
    let is_blank = |text: &Option<String>| text.as_ref().is_none_or(|text| text.trim().is_empty());
    let field = ProcessingActivity::TRANSFER_SAFEGUARDS.name();
    let is_silent = activity.is_transferred && is_blank(&activity.transfer_safeguards);
    if is_silent && !faults.has(&field) {
        faults.add(
            field,
            codes::REQUIRED,
            "say where the data goes and what protects it there",
        );
    }
    let is_weighed = activity.lawful_basis == LawfulBasis::LegitimateInterests;
    let field = ProcessingActivity::LEGITIMATE_INTERESTS.name();
    if is_weighed && is_blank(&activity.legitimate_interests) && !faults.has(&field) {
        faults.add(
            field,
            codes::REQUIRED,
            "say which interests outweigh those of the person",
        );
    }
}
