//! Objects and conditions that tenants define.

use crm_engine::automation::AutomationRule;
use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomObject, TextLimits};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::query::{Criteria, Filter};
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{GHOST, OPERATIONS, Scene, operate, told};
use crate::common::{Populated, picture, rows_of};

/// A viewing of a tenant, and who came to it: records of an object and of a relationship that both
/// tenants defined with the same names.
async fn viewing(who: &Populated) -> [Uuid; 2] {
    let session = &who.session;
    let body = json!({"name": "First floor", "custom_fields": {"outcome": "liked"}});
    let mut viewings = session.object("viewing").await.unwrap();
    let viewing = viewings
        .create(body.as_object().unwrap())
        .await
        .unwrap()
        .id();
    let body = json!({"from_id": viewing, "to_id": who.contact});
    let mut visitors = session.object("viewing_visitors").await.unwrap();
    let visitor = visitors.create(body.as_object().unwrap()).await.unwrap();
    [viewing, visitor.id()]
}

/// C-036: what two tenants define under one name has nothing to do with each other.
#[tokio::test]
async fn records_of_another_tenants_objects_never_existed() {
    let scene = Scene::new().await;
    let theirs = viewing(&scene.victim).await;
    let own = viewing(&scene.attacker).await;
    let names = ["viewing", "viewing_visitors"];
    let secret = CustomObject::new(ApiName::parse("secret").unwrap(), "Secret", "Secrets");
    let of_victim = scene.victim.session.records::<CustomObject>();
    { of_victim }.create(secret).await.unwrap();
    let about = |id| EntityRef::new("viewing", id);
    let (session, victim) = (&scene.attacker.session, &scene.victim.session);
    let of_theirs = about(theirs[0]);
    victim
        .comments()
        .write(of_theirs.clone(), "Kept")
        .await
        .unwrap();
    let task = |id, owner| Activity::new(ActivityType::Task, "Ask", about(id), owner);
    let known = task(theirs[0], scene.victim.user);
    victim.activities().create(known).await.unwrap();
    let described = victim.describe("viewing").await.unwrap();
    let before = (
        picture(victim).await,
        picture(session).await,
        rows_of(victim, names[0]).await,
        rows_of(victim, names[1]).await,
    );

    for (name, id) in names.into_iter().zip(theirs) {
        for operation in OPERATIONS {
            let mut records = session.object(name).await.unwrap();
            let ghost = operate(&mut records, operation, GHOST).await;
            let foreign = operate(&mut records, operation, id).await;
            assert_eq!(foreign, ghost, "{operation} of a {name}");
        }
        let records = session.object(name).await.unwrap();
        assert_eq!(records.count(&Find::new()).await.unwrap(), 1);
        let mut work = session.begin();
        assert!(work.row(&described, id).await.unwrap().is_none());
        let field = described.field_index("name").unwrap();
        let stolen = work
            .create_values(&described, &[(field, "Stolen".into())])
            .await;
        assert!(stolen.is_err());
    }
    // Links, activities, comments and followers lead to nobody else's records.
    let mut told_of = Vec::new();
    for id in [theirs[0], GHOST] {
        let contact = scene.attacker.contact;
        let link = json!({"from_id": id, "to_id": contact});
        let mut visitors = session.object(names[1]).await.unwrap();
        let link = visitors.create(link.as_object().unwrap()).await;
        let activity = task(id, scene.attacker.user);
        let mut viewings = session.object(names[0]).await.unwrap();
        told_of.push([
            told(link.map(|row| row.to_json()), id),
            told(session.activities().create(activity).await, id),
            told(session.activities().of(about(id), None).await, id),
            told(session.activities().recompute(about(id)).await, id),
            told(session.comments().write(about(id), "Mine").await, id),
            told(session.comments().of(about(id), None).await, id),
            told(
                session
                    .followers()
                    .follow(about(id), scene.attacker.user)
                    .await,
                id,
            ),
            told(
                viewings
                    .merge_into(own[0], &[id], &Choices::new(), None)
                    .await,
                id,
            ),
            told(viewings.resolve_all(&[id]).await, id),
        ]);
    }
    assert_eq!(told_of[0], told_of[1]);
    for (place, outcome) in told_of[0].iter().enumerate() {
        let reads = matches!(place, 2 | 5 | 8);
        assert_eq!(
            !outcome.contains("NotFound") && !outcome.contains("not_found"),
            reads,
            "{outcome}"
        );
    }
    let through = json!({"any": names[1], "by": "to_id", "where":
        {"field": "from_id", "op": "eq", "value": theirs[0]}});
    let through = Find::<()>::new().filter_by_name(Filter::from_json(&through).unwrap());
    let contacts = session.object("contact").await.unwrap();
    assert_eq!(contacts.count(&through).await.unwrap(), 0);
    // The object of which only the other tenant knows is one that never existed.
    let unknown = session.object("secret").await.err().unwrap().to_string();
    let never = session.object("nothing").await.err().unwrap().to_string();
    assert_eq!(unknown.replace("secret", "nothing"), never);
    let after = (
        picture(victim).await,
        picture(session).await,
        rows_of(victim, names[0]).await,
        rows_of(victim, names[1]).await,
    );
    let json = |rows: &[crm_engine::schema::Row]| -> Vec<_> {
        rows.iter().map(|row| row.to_json()).collect()
    };
    assert!(
        before.0 == after.0 && before.1 == after.1,
        "an attack left a trace"
    );
    assert_eq!(json(&before.2), json(&after.2));
    assert_eq!(json(&before.3), json(&after.3));
}

/// no search finds what another tenant wrote, and conditions of stages and
/// rules name neither its fields nor its records: they are refused, or never true, as for names and ids
/// that never existed.
#[tokio::test]
async fn searches_and_conditions_reach_no_other_tenant() {
    let scene = Scene::new().await;
    let (session, victim) = (&scene.attacker.session, &scene.victim.session);
    let name = |name: &str| ApiName::parse(name).unwrap();
    let text = || CustomFieldType::Text(TextLimits::default());
    let vault = CustomObject::new(name("vault"), "Vault", "Vaults");
    victim.records().create(vault).await.unwrap();
    for (object, field) in [
        ("contact", "motto"),
        ("deal", "codename"),
        ("vault", "word"),
    ] {
        let field = CustomField {
            is_searchable: true,
            ..CustomField::new(name(object), name(field), "Field", text())
        };
        victim.records().create(field).await.unwrap();
    }
    // Words of built-in fields, tags, and own fields.
    victim
        .contacts()
        .update(scene.victim.contact, |contact| {
            contact.company = Some("Quastenflosser".into());
            contact.tags = vec!["zwiebelfisch".into()];
            contact.custom_fields = json!({"motto": "plusquamperfekt"});
        })
        .await
        .unwrap();
    let body = json!({"name": "Wolpertinger", "custom_fields": {"word": "sesam"}});
    let mut vaults = victim.object("vault").await.unwrap();
    vaults.create(body.as_object().unwrap()).await.unwrap();
    let before = picture(victim).await;

    let found = async |session: &Session, object: &str, text: &str| {
        let found = session.search(object, text, 100).await;
        found.map(|found| found.records.len())
    };
    assert_eq!(found(victim, "contact", "plusquam").await.unwrap(), 1);
    assert_eq!(found(victim, "vault", "sesam").await.unwrap(), 1);
    let words = [
        "quasten",
        "zwiebelfisch",
        "plusquam",
        "wolpertinger",
        "sesam",
    ];
    for object in session.registry().await.unwrap().objects().keys() {
        for word in words {
            assert_eq!(found(session, object, word).await.unwrap(), 0, "{object}");
        }
    }
    let unknown = found(session, "vault", "sesam").await.unwrap_err();
    let never = found(session, "ghost", "sesam").await.unwrap_err();
    assert_eq!(
        unknown.to_string().replace("vault", "ghost"),
        never.to_string()
    );
    // What both wrote is found by each as its own only.
    let theirs: Vec<Uuid> = scene.targets().await.into_values().flatten().collect();
    for object in ["contact", "account", "deal", "lead"] {
        for row in rows_of(session, object).await {
            for field in session.describe(object).await.unwrap().own_fields() {
                let value = row.get(&field.name).into_owned();
                let Some(text) = value.as_ref().as_text().map(str::to_owned) else {
                    continue;
                };
                let found = session.search(object, &text, 100).await.unwrap();
                assert!(
                    found
                        .records
                        .iter()
                        .all(|one| !theirs.contains(&one.row.id()))
                );
            }
        }
    }

    // Fields: refused in the same words as names that nobody ever gave.
    let stage = scene.attacker.onboarded.stages[1];
    let rule = scene.attacker.rule;
    let stage_asks = async |source: String| {
        let change = |stage: &mut PipelineStage| stage.entry_condition = Some(source.clone());
        session.pipelines().update_stage(stage, change).await
    };
    let stage_filters = async |filter: Json| {
        let filter = Filter::from_json(&filter).unwrap();
        let change =
            |stage: &mut PipelineStage| stage.entry_criteria = Some(Criteria(filter.clone()));
        session.pipelines().update_stage(stage, change).await
    };
    let rule_asks = async |source: String| {
        let change = |rule: &mut AutomationRule| rule.condition_expression = Some(source.clone());
        session.automation_rules().update(rule, change).await
    };
    for pattern in [
        "NAME = 'x'",
        "custom_fields.NAME = 'x'",
        "contact_id.NAME is null",
    ] {
        for stolen in ["codename", "motto", "word"] {
            let outcomes = async |name: &str| {
                let source = pattern.replace("NAME", name);
                let outcomes = [
                    told(stage_asks(source.clone()).await.map(|_| ()), GHOST),
                    told(rule_asks(source).await.map(|_| ()), GHOST),
                ];
                outcomes.map(|told| told.replace(name, "NAME"))
            };
            let outcome = outcomes(stolen).await;
            assert_eq!(outcome, outcomes("never").await, "{pattern}");
            assert!(
                outcome.iter().all(|told| told.contains("validation")),
                "{outcome:?}"
            );
        }
    }
    // Records: the ids are texts to a condition, of which nothing is told, and no deal leads there.
    let (of_victim, own) = (scene.victim.account, scene.attacker.account);
    let mut told_of = Vec::new();
    for id in [of_victim.uuid(), GHOST] {
        let filter = json!({"field": "account_id", "op": "eq", "value": id});
        let through =
            json!({"field": "account_id", "has": {"field": "id", "op": "eq", "value": id}});
        let mut outcomes = Vec::new();
        for change in 0..4 {
            let source = format!("account_id = id('{id}') or account_id.id = id('{id}')");
            let changed = match change {
                0 => stage_asks(source).await.map(|_| ()),
                1 => stage_filters(filter.clone()).await.map(|_| ()),
                2 => stage_filters(through.clone()).await.map(|_| ()),
                _ => rule_asks(source).await.map(|_| ()),
            };
            outcomes.push(told(changed, id));
            let entering = Deal {
                account_id: Some(own),
                stage_id: Some(stage),
                ..Deal::new("Spy", scene.attacker.onboarded.pipeline)
            };
            let entered = session.deals().create(entering).await.map(|_| ());
            outcomes.push(told(entered, id));
            let trial = session.automation().test(rule, scene.attacker.deal).await;
            outcomes.push(told(trial.map(|trial| trial.fits), id));
        }
        told_of.push(outcomes);
        session
            .pipelines()
            .update_stage(stage, |stage| {
                stage.entry_condition = None;
                stage.entry_criteria = None;
            })
            .await
            .unwrap();
        let change = |rule: &mut AutomationRule| rule.condition_expression = None;
        session
            .automation_rules()
            .update(rule, change)
            .await
            .unwrap();
    }
    assert_eq!(told_of[0], told_of[1]);
    assert!(before == picture(victim).await, "an attack left a trace");
}
