//! A catalogue of offers and the deals that they belong to: a many-to-many relationship, asked in
//! both directions.

use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldType, CustomObject, CustomRelationship, RelationshipKind,
    TextLimits,
};
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use crm_engine::value::ApiName;
use serde_json::json;

use super::{
    BoxError, add, add_picklist, define, field, find, make, name, refusal, required, value,
};

pub(super) async fn show(session: &Session, acme: &Onboarded) -> Result<(), BoxError> {
    println!("Catalogue");
    describe(session).await?;
    let mut offers = Vec::new();
    for (offer, sku, price, category) in [
        ("Gateway", "HW-1", "400", "hardware"),
        ("Licence", "SW-1", "1200", "software"),
        ("Training", "SV-1", "90.50", "service"),
    ] {
        let custom = json!({"sku": sku, "price": price, "category": category, "on_sale": true});
        let body = json!({"name": offer, "custom_fields": custom});
        offers.push(make(session, "offer", body).await?.id());
    }
    let mut deals = Vec::new();
    for deal in ["Rollout", "Pilot"] {
        let deal = Deal::new(deal, acme.pipeline);
        deals.push(session.deals().create(deal).await?.id);
    }
    // The first deal is about everything, the second about the licence.
    let links = offers
        .iter()
        .map(|offer| (deals.first(), Some(offer)))
        .chain([(deals.get(1), offers.get(1))]);
    for (deal, offer) in links {
        make(
            session,
            "deal_offers",
            json!({"from_id": deal, "to_id": offer}),
        )
        .await?;
    }

    // From the deals to the offers, and back.
    let of_pilot = json!({"any": "deal_offers", "by": "to_id", "where":
        {"field": "from_id", "has": {"field": "name", "op": "eq", "value": "Pilot"}}});
    for offer in find(session, "offer", &of_pilot, "price").await? {
        println!(
            "  the pilot needs {} for {} EUR",
            name(&offer),
            value(&offer, "price")
        );
    }
    let with_cheap = json!({"any": "deal_offers", "by": "from_id", "where":
        {"field": "to_id", "has": {"field": "price", "op": "lt", "value": "1000"}}});
    for deal in find(session, "deal", &with_cheap, "name").await? {
        println!("  {} has an offer below 1000 EUR", name(&deal));
    }

    // A deal that goes takes its links along, and no offer.
    if let Some(rollout) = deals.first() {
        session.deals().delete(*rollout).await?;
    }
    let links = session
        .object("deal_offers")
        .await?
        .count(&Find::new())
        .await?;
    let left = session.object("offer").await?.count(&Find::new()).await?;
    println!("  without the rollout: {links} link, {left} offers");

    // Activities are about deals, not about the catalogue.
    if let Some(offer) = offers.first() {
        let offer = EntityRef::new("offer", *offer);
        let call = Activity::new(ActivityType::Call, "Ask", offer, acme.admin);
        if let Err(error) = session.activities().create(call).await {
            println!("  refused: {}", refusal(&error));
        }
    }
    Ok(())
}

async fn describe(session: &Session) -> Result<(), BoxError> {
    let offer = CustomObject {
        description: Some("What can be sold".into()),
        allow_activities: false,
        ..CustomObject::new(ApiName::parse("offer")?, "Offer", "Offers")
    };
    define(session, offer).await?;
    let sku = CustomFieldType::Text(TextLimits {
        max_length: Some(50),
        ..TextLimits::default()
    });
    let sku = CustomField {
        is_unique: true,
        ..field("offer", "sku", "SKU", sku)?
    };
    let price = CustomFieldType::Currency {
        currency: Currency::EUR,
        min: Some(0.into()),
        max: None,
    };
    for definition in [
        required(sku),
        required(field("offer", "price", "Unit price", price)?),
        required(field(
            "offer",
            "on_sale",
            "On sale",
            CustomFieldType::Boolean,
        )?),
    ] {
        add(session, definition).await?;
    }
    let category = field("offer", "category", "Category", CustomFieldType::Picklist)?;
    let options = [
        ("hardware", "Hardware"),
        ("software", "Software"),
        ("service", "Service"),
    ];
    add_picklist(session, required(category), &options).await?;
    let relationship = CustomRelationship::new(
        ApiName::parse("deal_offers")?,
        ApiName::parse("deal")?,
        ApiName::parse("offer")?,
        RelationshipKind::ManyToMany,
        Cardinality::ManyToMany,
    );
    session.records().create(relationship).await?;
    Ok(())
}
