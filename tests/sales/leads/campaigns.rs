//! C-208: campaigns, their members, first touches, conversions, merges, and what campaigns brought.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crm_engine::campaigns::{
    Campaign, CampaignMember, CampaignStatus, MemberStatus, next_statuses,
};
use crm_engine::error::codes;
use crm_engine::leads::{ConversionPlan, LeadStatus};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use proptest::prelude::*;
use serde_json::json;

use super::{cases, common, company, lead, session};

async fn campaign(session: &Session, name: &str) -> Id<Campaign> {
    session
        .campaigns()
        .create(Campaign::new(name))
        .await
        .unwrap()
        .id
}

fn by(campaign: Id<Campaign>, name: &str) -> Lead {
    let mut lead = company(name);
    lead.source.campaign_id = Some(campaign);
    lead
}

/// The same with a name, so that it can become a contact.
fn person_by(campaign: Id<Campaign>) -> Lead {
    Lead {
        name: Some(PersonName::new("Ada", "Lovelace")),
        ..by(campaign, "Globex")
    }
}

async fn contact(session: &Session, name: &str) -> Id<Contact> {
    session
        .contacts()
        .create(Contact::named(name, "Lovelace"))
        .await
        .unwrap()
        .id
}

/// The live members of a campaign: the lead, the contact, the status, whether it is a first touch.
type Seen = (Option<Id<Lead>>, Option<Id<Contact>>, MemberStatus, bool);

async fn members(session: &Session, campaign: Id<Campaign>) -> Vec<Seen> {
    let find = Find::from(CampaignMember::CAMPAIGN_ID.eq(campaign));
    let page = session.campaign_members().find(find).await.unwrap();
    let seen = page.items.iter();
    seen.map(|one| (one.lead_id, one.contact_id, one.status, one.is_first_touch))
        .collect()
}

/// The leads among the live members of a campaign.
async fn member_leads(session: &Session, campaign: Id<Campaign>) -> Vec<Option<Id<Lead>>> {
    let members = members(session, campaign).await;
    members.iter().map(|one| one.0).collect()
}

/// The lead is one like others, converted or not before.
fn assert_is_open(lead: &Lead) {
    assert_eq!(
        (lead.status, lead.conversion.is_some()),
        (LeadStatus::New, false)
    );
}

/// The table of statuses of campaigns is what every way of writing accepts.
#[tokio::test]
async fn the_table_of_statuses_holds_on_every_way() {
    let session = session().await;
    for from in CampaignStatus::ALL {
        for to in CampaignStatus::ALL {
            for way in 0..3 {
                let made = Campaign {
                    status: *from,
                    ..Campaign::new("Fair")
                };
                let made = session.campaigns().create(made).await.unwrap();
                let patch = json!({"status": to.as_str()});
                let patch = patch.as_object().unwrap();
                let mut campaigns = session.campaigns();
                let outcome = match way {
                    0 => campaigns.set_status(made.id, *to).await.map(drop),
                    1 => campaigns.merge(made.id, 1, patch).await.map(drop),
                    _ => {
                        let mut work = session.begin();
                        let mut named = work.object("campaign").await.unwrap();
                        let outcome = named.merge(made.id.uuid(), 1, patch).await.map(drop);
                        match outcome {
                            Ok(()) => work.commit().await.map(drop),
                            Err(error) => Err(error),
                        }
                    }
                };
                let is_allowed = from == to || next_statuses(*from).contains(to);
                assert_eq!(outcome.is_ok(), is_allowed, "{from} to {to} by {way}");
                if let Err(error) = outcome {
                    assert_eq!(error.code(), "transition");
                }
            }
        }
    }
}

/// Dates, amounts and trees are checked.
#[tokio::test]
async fn faulty_campaigns_are_told() {
    let session = session().await;
    let day = |text: &str| Some(text.parse().unwrap());
    let faulty = Campaign {
        start_date: day("2026-03-02"),
        end_date: day("2026-03-01"),
        budget: Some((-1).into()),
        ..Campaign::new(" ")
    };
    let error = session.campaigns().create(faulty).await.unwrap_err();
    let faults: BTreeSet<_> = error
        .field_errors()
        .iter()
        .map(|fault| (fault.path.as_str(), fault.code))
        .collect();
    let expected = [
        ("budget", codes::OUT_OF_RANGE),
        ("end_date", codes::INCONSISTENT),
        ("name", codes::BLANK),
    ];
    assert_eq!(faults, BTreeSet::from(expected));
    let (one, two) = (
        campaign(&session, "One").await,
        campaign(&session, "Two").await,
    );
    let below = |parent| move |own: &mut Campaign| own.parent_campaign_id = Some(parent);
    session.campaigns().update(two, below(one)).await.unwrap();
    let error = session
        .campaigns()
        .update(one, below(two))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    assert_eq!(
        session
            .campaigns()
            .descendants(one, Find::new())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

/// Members are leads and contacts, once each; responses have a time, the first one counts.
#[tokio::test]
async fn members_come_respond_and_go() {
    let session = session().await;
    let fair = campaign(&session, "Fair").await;
    let ada = contact(&session, "Ada").await;
    let globex = lead(&session, company("Globex")).await.id;
    let first = session.campaigns().add_member(fair, ada).await.unwrap();
    let again = session.campaigns().add_member(fair, ada).await.unwrap();
    assert_eq!(first.id, again.id);
    let twice = CampaignMember {
        contact_id: Some(ada),
        ..CampaignMember::new(fair)
    };
    let error = session.campaign_members().create(twice).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");
    session.campaigns().add_member(fair, globex).await.unwrap();
    let responded = session.campaigns().respond(fair, ada).await.unwrap();
    assert_eq!(responded.status, MemberStatus::Responded);
    assert_eq!(responded.responded_at, Some(responded.updated.at));
    let later = session.campaigns().respond(fair, ada).await.unwrap();
    assert_eq!(later.responded_at, responded.responded_at);
    // Nobody says of a lead that it is converted but its conversion; of a contact people may.
    let set = |member: &mut CampaignMember| member.status = MemberStatus::Converted;
    session
        .campaign_members()
        .update(first.id, set)
        .await
        .unwrap();
    let member = Find::from(CampaignMember::LEAD_ID.eq(globex));
    let member = session
        .campaign_members()
        .find_one(member)
        .await
        .unwrap()
        .unwrap();
    let error = session
        .campaign_members()
        .update(member.id, set)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_converted");
    let nobody = session
        .campaign_members()
        .create(CampaignMember::new(fair))
        .await
        .unwrap_err();
    assert_eq!(nobody.field_errors()[0].code, codes::REQUIRED);
    session
        .campaigns()
        .remove_member(fair, globex)
        .await
        .unwrap();
    let error = session
        .campaigns()
        .remove_member(fair, globex)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
    let error = session.campaigns().respond(fair, globex).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
    // Who came once may come again.
    session.campaigns().add_member(fair, globex).await.unwrap();
    assert_eq!(members(&session, fair).await.len(), 2);
    // A person who is deleted is no member, and is one again when restored.
    session.contacts().delete(ada).await.unwrap();
    assert_eq!(members(&session, fair).await.len(), 1);
    session.contacts().restore(ada).await.unwrap();
    assert_eq!(members(&session, fair).await.len(), 2);
}

/// The campaign that brought a lead has it as a member, however the lead is written; a membership
/// that somebody made or changed stays when the lead is put down to another campaign.
#[tokio::test]
async fn a_lead_is_a_member_of_the_campaign_that_brought_it() {
    let session = session().await;
    let [fair, letter] = [
        campaign(&session, "Fair").await,
        campaign(&session, "Letter").await,
    ];
    let came = MemberStatus::Responded;
    let globex = lead(&session, by(fair, "Globex")).await;
    assert_eq!(
        members(&session, fair).await,
        [(Some(globex.id), None, came, true)]
    );
    let patch = json!({"campaign_id": letter});
    let moved = session
        .leads()
        .merge(globex.id, 1, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(members(&session, fair).await, []);
    assert_eq!(
        members(&session, letter).await,
        [(Some(globex.id), None, came, true)]
    );
    // It is not taken out behind the lead's back.
    let error = session
        .campaigns()
        .remove_member(letter, globex.id)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "first_touch");
    let member = session
        .campaign_members()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap();
    session.campaign_members().delete(member.id).await.unwrap();
    assert_eq!(
        members(&session, letter).await,
        [(Some(globex.id), None, came, true)]
    );
    // What somebody changed stays.
    let member = session
        .campaign_members()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap();
    let on = "2026-01-05T10:00:00Z".parse().unwrap();
    let at = |member: &mut CampaignMember| member.responded_at = Some(on);
    session
        .campaign_members()
        .update(member.id, at)
        .await
        .unwrap();
    let none = |lead: &mut Lead| lead.source.campaign_id = None;
    let moved = session.leads().update(moved.id, none).await.unwrap();
    assert_eq!(
        members(&session, letter).await,
        [(Some(moved.id), None, came, false)]
    );
    // Who is a member already is none twice, in the same commit either.
    let mut work = session.begin();
    work.campaigns().add_member(fair, moved.id).await.unwrap();
    work.leads()
        .update(moved.id, |lead| lead.source.campaign_id = Some(fair))
        .await
        .unwrap();
    let new = work.leads().create(by(fair, "Initech")).await.unwrap();
    work.campaigns().add_member(fair, new.id).await.unwrap();
    work.commit().await.unwrap();
    let sent = MemberStatus::Sent;
    let seen: BTreeSet<_> = members(&session, fair)
        .await
        .into_iter()
        .map(|one| (one.0, one.2 == sent))
        .collect();
    assert_eq!(
        seen,
        BTreeSet::from([(Some(moved.id), true), (Some(new.id), true)])
    );
    // Deleted and restored, lead and campaign.
    session.leads().delete(new.id).await.unwrap();
    assert_eq!(members(&session, fair).await.len(), 1);
    session.leads().restore(new.id).await.unwrap();
    assert_eq!(members(&session, fair).await.len(), 2);
    session.campaigns().delete(fair).await.unwrap();
    assert_eq!(members(&session, fair).await.len(), 0);
    let stored = session.leads().get(new.id).await.unwrap();
    assert_eq!(stored.source.campaign_id, None);
    common::assert_trail_tells_every_record(&session).await;
}

/// All leads or contacts of a filter at once, by custom fields too, a second time without effect.
#[tokio::test]
async fn members_are_added_by_a_query() {
    let session = session().await;
    let fair = campaign(&session, "Fair").await;
    let many = (0..620).map(|number| Lead {
        custom_fields: json!({"segment": if number % 10 == 0 { "small" } else { "large" }}),
        ..company(&format!("Lead {number}"))
    });
    session.leads().create_all(many.collect()).await.unwrap();
    let ada = contact(&session, "Ada").await;
    session.campaigns().add_member(fair, ada).await.unwrap();
    let large = || Filter::eq("custom_fields.segment", "large");
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let some = session
        .campaigns()
        .add_members::<Lead>(fair, large(), &stop)
        .await
        .unwrap();
    assert!(some.is_stopped);
    assert_eq!(some.added, 500);
    let all = session
        .campaigns()
        .add_members::<Lead>(fair, large(), &())
        .await
        .unwrap();
    assert_eq!((all.checked, all.added, all.is_stopped), (558, 58, false));
    let contacts = session
        .campaigns()
        .add_members::<Contact>(fair, Filter::all(), &())
        .await;
    assert_eq!(contacts.unwrap().added, 0);
    let brought = session.campaigns().attribution(fair).await.unwrap();
    assert_eq!(brought.members, 559);
    let faulty = Filter::eq("no_such_field", 1);
    let error = session
        .campaigns()
        .add_members::<Lead>(fair, faulty, &())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "unknown_field");
}

/// Members follow their leads and contacts through merges, and back.
#[tokio::test]
async fn merges_take_memberships_along() {
    let session = session().await;
    let [fair, letter] = [
        campaign(&session, "Fair").await,
        campaign(&session, "Letter").await,
    ];
    let survivor = lead(&session, by(fair, "Globex")).await.id;
    let loser = lead(&session, by(letter, "Globex Inc.")).await.id;
    session.campaigns().add_member(fair, loser).await.unwrap();
    let merge = session
        .leads()
        .merge_into(survivor, &[loser], &Choices::new(), None)
        .await
        .unwrap();
    for campaign in [fair, letter] {
        let leads: Vec<_> = members(&session, campaign)
            .await
            .iter()
            .map(|one| one.0)
            .collect();
        assert_eq!(leads, [Some(survivor)]);
    }
    drop(merge);
    let merges = session.merges().find(Find::new()).await.unwrap().items;
    session.merges().undo(merges[0].id).await.unwrap();
    let of = |seen: Vec<Seen>| -> BTreeSet<_> { seen.into_iter().map(|one| one.0).collect() };
    assert_eq!(
        of(members(&session, fair).await),
        BTreeSet::from([Some(survivor), Some(loser)])
    );
    assert_eq!(
        of(members(&session, letter).await),
        BTreeSet::from([Some(loser)])
    );
    let (ada, twin) = (
        contact(&session, "Ada").await,
        contact(&session, "Ada").await,
    );
    session.campaigns().add_member(letter, twin).await.unwrap();
    session
        .contacts()
        .merge_into(ada, &[twin], &Choices::new(), None)
        .await
        .unwrap();
    let contacts: BTreeSet<_> = members(&session, letter)
        .await
        .iter()
        .map(|one| one.1)
        .collect();
    assert_eq!(contacts, BTreeSet::from([None, Some(ada)]));
}

/// Converts a lead to an existing contact, and to nothing else.
async fn convert(session: &Session, lead: Id<Lead>, contact: Id<Contact>) -> Result<()> {
    let plan = ConversionPlan::new()
        .into_contact(contact)
        .without_account();
    session.leads().convert(lead, plan).await.map(drop)
}

/// C-006, C-208: memberships of a converted lead are its contact's too, and come back.
#[tokio::test]
async fn a_conversion_takes_memberships_along_and_back() {
    let session = session().await;
    let [fair, letter, call] = [
        campaign(&session, "Fair").await,
        campaign(&session, "Letter").await,
        campaign(&session, "Call").await,
    ];
    let globex = lead(&session, by(fair, "Globex")).await.id;
    session
        .campaigns()
        .add_member(letter, globex)
        .await
        .unwrap();
    session.campaigns().add_member(call, globex).await.unwrap();
    let ada = contact(&session, "Ada").await;
    // She is a member herself already.
    session.campaigns().add_member(call, ada).await.unwrap();
    let before = [
        members(&session, fair).await,
        members(&session, letter).await,
        members(&session, call).await,
    ];
    convert(&session, globex, ada).await.unwrap();
    let converted = MemberStatus::Converted;
    assert_eq!(
        members(&session, fair).await,
        [(Some(globex), Some(ada), converted, true)]
    );
    assert_eq!(
        members(&session, letter).await,
        [(Some(globex), Some(ada), converted, false)]
    );
    let mut in_call = members(&session, call).await;
    in_call.sort_by_key(|one| one.0);
    let expected = [
        (None, Some(ada), MemberStatus::Sent, false),
        (Some(globex), None, converted, false),
    ];
    assert_eq!(in_call, expected);
    let brought = session.campaigns().attribution(fair).await.unwrap();
    assert_eq!(
        (brought.members, brought.leads, brought.converted_leads),
        (1, 1, 1)
    );
    // Lead and contact are one member.
    let member = session.campaigns().add_member(letter, ada).await.unwrap();
    assert_eq!(member.lead_id, Some(globex));
    session.leads().undo_conversion(globex).await.unwrap();
    let after = [
        members(&session, fair).await,
        members(&session, letter).await,
        members(&session, call).await,
    ];
    assert_eq!(after, before);
}

/// C-006, C-208: a new contact is the member, too, and none is left when it goes; who responded
/// meanwhile has done so; the deal is put down to the campaign that brought the lead.
#[tokio::test]
async fn a_new_contact_takes_over_memberships_and_the_deal_its_campaign() {
    let session = session().await;
    let [fair, letter] = [
        campaign(&session, "Fair").await,
        campaign(&session, "Letter").await,
    ];
    let globex = lead(&session, person_by(fair)).await.id;
    session
        .campaigns()
        .add_member(letter, globex)
        .await
        .unwrap();
    let plan = ConversionPlan::with_deal("Rollout");
    let done = session.leads().convert(globex, plan).await.unwrap();
    let carried: Vec<_> = done
        .carried
        .iter()
        .map(|one| (&*one.object, one.carried))
        .collect();
    assert_eq!(carried, [("campaign_member", 2)]);
    let converted = MemberStatus::Converted;
    assert_eq!(
        members(&session, letter).await,
        [(Some(globex), Some(done.contact), converted, false)]
    );
    let deal = session.deals().get(done.deal.unwrap()).await.unwrap();
    assert_eq!(deal.campaign_id, Some(fair));
    let brought = session.campaigns().attribution(fair).await.unwrap();
    assert_eq!((brought.converted_leads, brought.deals), (1, 1));
    let responded = session.campaigns().respond(letter, globex).await.unwrap();
    assert_eq!(responded.status, converted);
    session.leads().undo_conversion(globex).await.unwrap();
    let came = MemberStatus::Responded;
    assert_eq!(
        members(&session, fair).await,
        [(Some(globex), None, came, true)]
    );
    assert_eq!(
        members(&session, letter).await,
        [(Some(globex), None, came, false)]
    );
    let brought = session.campaigns().attribution(fair).await.unwrap();
    assert_eq!((brought.converted_leads, brought.deals), (0, 0));
    common::assert_trail_tells_every_record(&session).await;
}

/// C-006, C-208: a lead that comes and is converted in one commit has its membership carried over.
#[tokio::test]
async fn a_lead_is_converted_in_the_commit_that_makes_it() {
    let session = session().await;
    let fair = campaign(&session, "Fair").await;
    let mut work = session.begin();
    let globex = work.leads().create(person_by(fair)).await.unwrap().id;
    let plan = ConversionPlan::new();
    let done = work.leads().convert(globex, plan).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(
        members(&session, fair).await,
        [(
            Some(globex),
            Some(done.contact),
            MemberStatus::Converted,
            true
        )]
    );
    session.leads().undo_conversion(globex).await.unwrap();
    assert_eq!(
        members(&session, fair).await,
        [(Some(globex), None, MemberStatus::Responded, true)]
    );
}

/// C-208: the contact of a converted lead is deleted and restored; the lead stays a member, once.
#[tokio::test]
async fn the_contact_of_a_converted_lead_goes_and_comes_back() {
    let session = session().await;
    let fair = campaign(&session, "Fair").await;
    let globex = lead(&session, by(fair, "Globex")).await.id;
    let ada = contact(&session, "Ada").await;
    convert(&session, globex, ada).await.unwrap();
    session.contacts().delete(ada).await.unwrap();
    assert_eq!(member_leads(&session, fair).await, [Some(globex)]);
    session.contacts().restore(ada).await.unwrap();
    assert_eq!(member_leads(&session, fair).await, [Some(globex)]);
    // It is a lead again while the contact is away, too.
    session.contacts().delete(ada).await.unwrap();
    let lead = session.leads().undo_conversion(globex).await.unwrap();
    assert_is_open(&lead);
    assert_eq!(
        members(&session, fair).await,
        [(Some(globex), None, MemberStatus::Responded, true)]
    );
}

/// the contact of a converted lead is merged into another one; the lead becomes one again.
#[tokio::test]
async fn a_conversion_is_undone_after_its_contact_was_merged() {
    let session = session().await;
    let fair = campaign(&session, "Fair").await;
    let globex = lead(&session, by(fair, "Globex")).await.id;
    let (ada, twin) = (
        contact(&session, "Ada").await,
        contact(&session, "Ada").await,
    );
    convert(&session, globex, twin).await.unwrap();
    session
        .contacts()
        .merge_into(ada, &[twin], &Choices::new(), None)
        .await
        .unwrap();
    let stored = session.leads().get(globex).await.unwrap();
    let of = stored.conversion.as_ref().and_then(|one| one.contact_id);
    assert_eq!(of, Some(ada));
    let lead = session.leads().undo_conversion(globex).await.unwrap();
    assert_is_open(&lead);
}

/// What happens to campaigns in a random history.
#[derive(Clone, Debug)]
enum Step {
    Lead(Option<usize>),
    Contact,
    Move(usize, Option<usize>),
    Add(usize, usize, bool),
    Respond(usize, usize, bool),
    Convert(usize, usize),
    Undo(usize),
    Delete(usize),
    Merge(usize, usize),
    Deal(Option<usize>, u32, usize),
    Win(usize),
    PutDown(usize, Option<usize>),
    DeleteCampaign(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..6_usize;
    let some = || prop::option::weighted(0.8, 0..3_usize);
    prop_oneof![
        4 => some().prop_map(Step::Lead),
        1 => Just(Step::Contact),
        3 => (which(), some()).prop_map(|(a, b)| Step::Move(a, b)),
        3 => (0..3_usize, which(), any::<bool>()).prop_map(|(a, b, c)| Step::Add(a, b, c)),
        2 => (0..3_usize, which(), any::<bool>()).prop_map(|(a, b, c)| Step::Respond(a, b, c)),
        2 => (which(), which()).prop_map(|(a, b)| Step::Convert(a, b)),
        1 => which().prop_map(Step::Undo),
        1 => which().prop_map(Step::Delete),
        1 => (which(), which()).prop_map(|(a, b)| Step::Merge(a, b)),
        3 => (some(), 1..900_u32, 0..2_usize).prop_map(|(a, b, c)| Step::Deal(a, b, c)),
        2 => which().prop_map(Step::Win),
        1 => (which(), some()).prop_map(|(a, b)| Step::PutDown(a, b)),
        1 => (0..30_usize).prop_map(Step::DeleteCampaign),
    ]
}

async fn all<E: Entity>(session: &Session) -> Vec<std::sync::Arc<Record<E>>> {
    let rows = common::rows_of(session, E::schema().name()).await;
    let records = rows.into_iter().filter_map(Record::<E>::from_row);
    records
        .filter(|record| record.deleted_at.is_none())
        .collect()
}

/// What a look at every record says that campaigns brought, and that every lead with a campaign is
/// its member, and nobody twice.
async fn check(session: &Session, campaigns: &[Id<Campaign>]) -> Result<(), TestCaseError> {
    let (leads, members, deals) = (
        all::<Lead>(session).await,
        all::<CampaignMember>(session).await,
        all::<Deal>(session).await,
    );
    let counted = session.campaigns().attributions(campaigns).await.unwrap();
    for (campaign, counted) in &counted {
        let own: Vec<_> = members
            .iter()
            .filter(|one| one.campaign_id == *campaign)
            .collect();
        prop_assert_eq!(counted.members, own.len() as u64);
        let responses = own.iter().filter(|one| one.responded_at.is_some());
        prop_assert_eq!(counted.responses, responses.count() as u64);
        let brought: Vec<_> = leads
            .iter()
            .filter(|lead| lead.source.campaign_id == Some(*campaign))
            .collect();
        prop_assert_eq!(counted.leads, brought.len() as u64);
        let converted = brought
            .iter()
            .filter(|lead| lead.status == LeadStatus::Converted);
        prop_assert_eq!(counted.converted_leads, converted.count() as u64);
        for lead in brought {
            let of_lead = own.iter().filter(|one| one.lead_id == Some(lead.id));
            prop_assert_eq!(of_lead.count(), 1, "a lead with a campaign is its member");
        }
        let put_down: Vec<_> = deals
            .iter()
            .filter(|deal| deal.campaign_id == Some(*campaign))
            .collect();
        prop_assert_eq!(counted.deals, put_down.len() as u64);
        let mut won: BTreeMap<Currency, rust_decimal::Decimal> = BTreeMap::new();
        let mut won_deals = 0;
        for deal in put_down
            .iter()
            .filter(|deal| deal.status == DealStatus::Won)
        {
            won_deals += 1;
            *won.entry(deal.currency).or_default() += deal.amount.unwrap_or_default();
        }
        prop_assert_eq!(counted.won_deals, won_deals);
        prop_assert_eq!(&counted.won_amounts, &won);
        prop_assert!(session.campaigns().attribution(*campaign).await.unwrap() == *counted);
    }
    for member in &members {
        let twins = members.iter().filter(|other| {
            other.campaign_id == member.campaign_id
                && (other.lead_id.is_some() && other.lead_id == member.lead_id
                    || other.contact_id.is_some() && other.contact_id == member.contact_id)
        });
        prop_assert_eq!(twins.count(), 1, "nobody is a member twice");
        if let Some(lead) = leads.iter().find(|lead| Some(lead.id) == member.lead_id) {
            let is_converted = member.status == MemberStatus::Converted;
            if is_converted && member.contact_id.is_none() {
                prop_assert_eq!(lead.status, LeadStatus::Converted);
            }
        }
    }
    Ok(())
}

/// C-208: attribution is what a look at every record says, after any history.
#[test]
fn attribution_is_what_a_look_at_each_record_says() {
    let steps = prop::collection::vec(step(), 1..40);
    cases(
        16,
        common::crm,
        steps,
        |onboarded, session, steps| async move {
            let mut campaigns = Vec::new();
            for name in ["Fair", "Letter", "Call"] {
                campaigns.push(campaign(&session, name).await);
            }
            for step in steps {
                take(&session, &onboarded, &campaigns, step).await;
                check(&session, &campaigns).await?;
            }
            Ok(())
        },
    );
}

/// Takes one step; what rules refuse is refused.
async fn take(
    session: &Session,
    onboarded: &crm_engine::tenancy::Onboarded,
    campaigns: &[Id<Campaign>],
    step: Step,
) {
    let mut there = Vec::new();
    for one in all::<Campaign>(session).await {
        there.push(one.id);
    }
    let place = |at: Option<usize>| at.and_then(|at| campaigns.get(at)).copied();
    let place = |at| place(at).filter(|id| there.contains(id));
    let leads: Vec<_> = all::<Lead>(session)
        .await
        .iter()
        .map(|lead| lead.id)
        .collect();
    let contacts: Vec<_> = all::<Contact>(session)
        .await
        .iter()
        .map(|one| one.id)
        .collect();
    let deals: Vec<_> = all::<Deal>(session)
        .await
        .iter()
        .map(|deal| deal.id)
        .collect();
    match step {
        Step::Lead(at) => {
            let mut made = company("Globex");
            made.source.campaign_id = place(at);
            lead(session, made).await;
        }
        Step::Contact => drop(contact(session, "Ada").await),
        Step::Move(which, at) => {
            if let Some(id) = leads.get(which) {
                let to = place(at);
                let change = |lead: &mut Lead| lead.source.campaign_id = to;
                let moved = session.leads().update(*id, change).await;
                // A converted lead stays as it is.
                let is_converted = |lead: Lead| lead.conversion.is_some();
                assert!(
                    moved.is_ok()
                        || is_converted(session.leads().get(*id).await.unwrap().data.clone())
                );
            }
        }
        Step::Add(at, which, is_lead) => {
            let Some(campaign) = place(Some(at)) else {
                return;
            };
            match (is_lead, leads.get(which), contacts.get(which)) {
                (true, Some(lead), _) => {
                    session
                        .campaigns()
                        .add_member(campaign, *lead)
                        .await
                        .unwrap();
                }
                (false, _, Some(contact)) => {
                    session
                        .campaigns()
                        .add_member(campaign, *contact)
                        .await
                        .unwrap();
                }
                _ => {}
            }
        }
        Step::Respond(at, which, removes) => {
            if let (Some(campaign), Some(lead)) = (place(Some(at)), leads.get(which)) {
                // Refused where the lead is no member, or came by the campaign.
                let mut campaigns = session.campaigns();
                let outcome = if removes {
                    campaigns.remove_member(campaign, *lead).await
                } else {
                    campaigns.respond(campaign, *lead).await.map(drop)
                };
                drop(outcome);
            }
        }
        Step::Convert(which, to) => {
            if let (Some(lead), Some(contact)) = (leads.get(which), contacts.get(to)) {
                // Refused where it was converted before.
                drop(convert(session, *lead, *contact).await);
            }
        }
        Step::Undo(which) => {
            if let Some(lead) = leads.get(which) {
                drop(session.leads().undo_conversion(*lead).await);
            }
        }
        Step::Delete(which) => {
            if let Some(lead) = leads.get(which) {
                session.leads().delete(*lead).await.unwrap();
                if which % 2 == 0 {
                    session.leads().restore(*lead).await.unwrap();
                }
            } else if let Some(contact) = contacts.last() {
                session.contacts().delete(*contact).await.unwrap();
            }
        }
        Step::Merge(one, other) => {
            if let (Some(one), Some(other)) = (leads.get(one), leads.get(other))
                && one != other
            {
                let mut leads = session.leads();
                let (other, choices) = ([*other], Choices::new());
                drop(leads.merge_into(*one, &other, &choices, None).await);
            }
        }
        Step::Deal(at, amount, currency) => {
            let deal = Deal {
                campaign_id: place(at),
                amount: Some(amount.into()),
                currency: Currency::parse(["EUR", "CHF"][currency]).unwrap(),
                ..Deal::new("Rollout", onboarded.pipeline)
            };
            session.deals().create(deal).await.unwrap();
        }
        Step::Win(which) => {
            if let Some(deal) = deals.get(which) {
                session.deals().win(*deal).await.unwrap();
            }
        }
        Step::PutDown(which, at) => {
            if let Some(deal) = deals.get(which) {
                let to = place(at);
                let change = |deal: &mut Deal| deal.campaign_id = to;
                session.deals().update(*deal, change).await.unwrap();
            }
        }
        Step::DeleteCampaign(which) => {
            if let Some(campaign) = place(Some(which)) {
                session.campaigns().delete(campaign).await.unwrap();
            }
        }
    }
}
