//! Conversions by chance, and their undoing.

use crm_engine::activities::{ActivityLinks, ActivitySeries, LocalDateTime, Recurrence};
use crm_engine::campaigns::{Campaign, CampaignMember, MemberStatus};
use crm_engine::contacts::ContactAffiliation;
use crm_engine::deals::DealContact;
use crm_engine::leads::{ConversionPlan, ConversionTarget, LeadConversionMapping};
use crm_engine::prelude::*;
use proptest::prelude::*;
use serde_json::json;

use super::{bill, consent, email, lead, state};
use crate::common;
use crate::common::{rows_of, tenant};

/// What a random conversion is made of.
#[derive(Clone, Debug)]
struct World {
    named: [bool; 5],
    has_contact: bool,
    contact_has_account: bool,
    contact_has: [bool; 4],
    account: u8,
    has_deal: bool,
    activities: Vec<(bool, bool, bool)>,
    has_series: bool,
    comments: usize,
    follows: (bool, bool),
    consents: (bool, bool),
    status: usize,
    other_affiliation: bool,
    /// Whether a campaign brought the lead, whether it is a member of another one and has responded
    /// to it, and whether the contact is a member of that, too.
    campaigns: (bool, Option<bool>, bool),
    is_scored: bool,
}

fn worlds() -> impl Strategy<Value = World> {
    let flags = || any::<(bool, bool)>();
    (
        (
            any::<[bool; 5]>(),
            any::<bool>(),
            any::<bool>(),
            any::<[bool; 4]>(),
        ),
        (
            0..4_u8,
            any::<bool>(),
            proptest::collection::vec(any::<(bool, bool, bool)>(), 0..4),
        ),
        (
            proptest::bool::weighted(0.3),
            0..3_usize,
            flags(),
            flags(),
            0..3_usize,
            any::<bool>(),
            any::<(bool, Option<bool>, bool)>(),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((named, has_contact, contact_has_account, contact_has), middle, last)| {
                let (account, has_deal, activities) = middle;
                let (has_series, comments, follows, consents, status, other_affiliation, ..) = last;
                let (.., campaigns, is_scored) = last;
                World {
                    named,
                    has_contact,
                    contact_has_account,
                    contact_has,
                    account,
                    has_deal,
                    activities,
                    has_series,
                    comments,
                    follows,
                    consents,
                    status,
                    other_affiliation,
                    campaigns,
                    is_scored,
                }
            },
        )
}

impl World {
    async fn live(&self, crm: &Crm, subdomain: &str) {
        let (acme, session) = tenant(crm, subdomain).await;
        let user = acme.admin;
        let pair = LeadConversionMapping {
            source_field: Some("custom_fields.segment".into()),
            ..LeadConversionMapping::new(ConversionTarget::Contact, "custom_fields.group")
        };
        session
            .records::<LeadConversionMapping>()
            .create(pair)
            .await
            .unwrap();
        if self.is_scored {
            let sets = || session.scoring_rule_sets();
            let set = sets().create_standard("Standard").await.unwrap();
            sets().publish(set.id).await.unwrap();
        }
        let mut campaigns = Vec::new();
        for name in ["Fair", "Letter"] {
            let made = session.campaigns().create(Campaign::new(name)).await;
            campaigns.push(made.unwrap().id);
        }
        let mut source = bill().source;
        source.campaign_id = self.campaigns.0.then_some(campaigns[0]);
        let full = bill();
        let [company, mail, title, tagged, custom] = self.named;
        let person = Lead {
            company: full.company.filter(|_| company),
            email: full.email.filter(|_| mail),
            job_title: full.job_title.filter(|_| title),
            tags: if tagged { full.tags } else { Vec::new() },
            custom_fields: if custom {
                full.custom_fields
            } else {
                json!({})
            },
            status: [
                LeadStatus::New,
                LeadStatus::Contacted,
                LeadStatus::Qualified,
            ][self.status],
            source,
            ..bill()
        };
        let id = lead(&session, person).await;
        let globex = session
            .accounts()
            .create(Account::new("Globex"))
            .await
            .unwrap()
            .id;
        let initech = Account {
            industry: Some("Printers".into()),
            ..Account::new("Initech")
        };
        let initech = session.accounts().create(initech).await.unwrap().id;
        let [mail, title, tagged, custom] = self.contact_has;
        let known = Contact {
            account_id: self.contact_has_account.then_some(globex),
            email: email("boss@initech.example").filter(|_| mail),
            job_title: title.then(|| "Boss".into()),
            tags: if tagged {
                vec!["fair".into(), "key".into()]
            } else {
                Vec::new()
            },
            custom_fields: if custom {
                json!({"group": 1})
            } else {
                json!({"x": 2})
            },
            ..Contact::named("William", "Lumbergh")
        };
        let known = session.contacts().create(known).await.unwrap().id;
        if self.other_affiliation {
            let besides = ContactAffiliation::new(known, initech);
            session.contacts().affiliate(besides).await.unwrap();
        }
        for (is_done, has_contact, has_account) in &self.activities {
            let links = ActivityLinks {
                contact_id: has_contact.then_some(known),
                account_id: has_account.then_some(globex),
                ..ActivityLinks::from(id)
            };
            let call = Activity::new(ActivityType::Call, "Call", links, user);
            let call = session.activities().create(call).await.unwrap();
            if *is_done {
                session.activities().complete(call.id, None).await.unwrap();
            }
        }
        if self.has_series {
            let review = Activity::new(ActivityType::Meeting, "Review", id, user);
            let rule = Recurrence::parse("FREQ=WEEKLY;COUNT=5").unwrap();
            let monday = LocalDateTime::parse("2100-01-04T09:00").unwrap();
            let series = ActivitySeries::new(review, rule, monday);
            session.activity_series().create(series).await.unwrap();
        }
        for _ in 0..self.comments {
            session.comments().write(id, "Nice").await.unwrap();
        }
        for (follows, record) in [
            (self.follows.0, EntityRef::from(id)),
            (self.follows.1, known.into()),
        ] {
            if follows {
                session.followers().follow(record, user).await.unwrap();
            }
        }
        if self.consents.0 {
            consent(&session, id).await;
        }
        if self.consents.1 {
            consent(&session, known).await;
        }
        let (_, member, contact_is_member) = self.campaigns;
        if let Some(responds) = member {
            session
                .campaigns()
                .add_member(campaigns[1], id)
                .await
                .unwrap();
            if responds {
                session.campaigns().respond(campaigns[1], id).await.unwrap();
            }
        }
        if contact_is_member {
            let mut all = session.campaigns();
            all.add_member(campaigns[1], known).await.unwrap();
        }
        let before = state(&session).await;

        let mut plan = ConversionPlan::new();
        if self.has_contact {
            plan = plan.into_contact(known);
        }
        plan = match self.account {
            0 => plan,
            1 => plan.without_account(),
            2 => plan.into_account(initech),
            _ if company => plan.into_new_account(),
            _ => plan,
        };
        if self.has_deal {
            plan = plan.and_deal("Rollout");
        }
        let done = session.leads().convert(id, plan).await.unwrap();
        // Everything the lead had is with the contact.
        let stored = session.leads().get(id).await.unwrap();
        assert_eq!(
            stored.conversion.as_ref().unwrap().contact_id,
            Some(done.contact)
        );
        let of_lead = Activity::LINKS.at(ActivityLinks::LEAD_ID).eq(id);
        let of_lead = session.activities().find(of_lead).await.unwrap();
        for activity in of_lead.items {
            assert!(activity.links.contact_id.is_some());
        }
        let of_lead = CampaignMember::LEAD_ID.eq(id);
        let of_lead = session.campaign_members().find(of_lead).await.unwrap();
        for member in of_lead.items {
            assert_eq!(member.status, MemberStatus::Converted);
            let of_contact = CampaignMember::CAMPAIGN_ID
                .eq(member.campaign_id)
                .and(CampaignMember::CONTACT_ID.eq(done.contact));
            let of_contact = session.campaign_members().count(of_contact).await.unwrap();
            assert_eq!(of_contact, 1, "the contact is a member once");
        }
        if let Some(deal) = done.deal {
            let deal = session.deals().get(deal).await.unwrap();
            assert_eq!(deal.campaign_id, stored.source.campaign_id);
        }
        assert_primary(&session).await;
        session.leads().undo_conversion(id).await.unwrap();
        let after = state(&session).await;
        for (key, record) in &before {
            assert_eq!(Some(record), after.get(key), "{key:?} is not what it was");
        }
        assert_eq!(after.len(), before.len(), "something is left over");
        assert_primary(&session).await;
    }
}

/// There is one primary contact of a deal exactly if the deal names one.
async fn assert_primary(session: &Session) {
    for row in rows_of(session, "deal").await {
        if row.is_deleted() {
            continue;
        }
        let primary = DealContact::DEAL_ID
            .eq(Id::<Deal>::new(row.id()))
            .and(DealContact::IS_PRIMARY.eq(true));
        let primary = session
            .records::<DealContact>()
            .find(primary)
            .await
            .unwrap()
            .items;
        let named: Vec<_> = primary.iter().map(|one| one.contact_id.uuid()).collect();
        assert_eq!(
            named,
            row.get("contact_id")
                .as_uuid()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }
}

/// A conversion and its undoing give every record back as it was, but for versions and stamps.
#[test]
fn conversion_then_undo_restores_every_field() {
    common::try_all(&worlds(), [96, 16], async |crm, name, world| {
        world.live(crm, name).await;
    });
}
