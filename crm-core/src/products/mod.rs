//! The catalogue: what the tenant sells, and for how much (C-209).
//!
//! A product has a price in one currency and, where it is sold in others, a [`ProductPrice`] in each.
//! The lines of deals copy name, code and price when they are made, so that a product that changes,
//! goes out of use or is deleted leaves them as they are. One that is not active, or archived, is
//! not put on new lines.
//!
//! ```
//! # use crm_core::{Id, Session, deals::Deal, error::Result};
//! use crm_core::deals::DealLine;
//! use crm_core::products::Product;
//! use crm_core::value::Currency;
//! # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
//! let licence = Product {
//!     unit_price: Some(1_200.into()),
//!     currency: Currency::EUR,
//!     ..Product::new("Licence")
//! };
//! let licence = session.products().create(licence).await?;
//! session.products().set_price(licence.id, "1300 USD".parse()?).await?;
//! // The line has the price in the currency of the deal.
//! let line = DealLine { quantity: 10.into(), ..DealLine::of_product(deal, licence.id) };
//! session.deals().add_line(line).await?;
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use crate::Id;
use crate::engine::{Records, Remembered, UnitOfWork, in_work};
use crate::error::Result;
use crate::query::WhereExt;
use crate::record::Record;
use crate::schema::Entity;
use crate::value::{Currency, Money};

/// Something that the tenant sells.
///
/// ```
/// use crm_core::products::Product;
/// use crm_core::value::Currency;
///
/// let licence = Product {
///     sku: Some("LIC-1".into()),
///     category: Some("Software".into()),
///     unit_price: Some(1_200.into()),
///     currency: Currency::EUR,
///     ..Product::new("Licence")
/// };
/// assert!(licence.is_active);
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "product",
    table = "products",
    unique(sku; ignore_case, live),
    index(category, is_active)
)]
pub struct Product {
    /// Name.
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// The tenant's own number for it; unique, whatever the case of its letters.
    #[field(max_len = 100, searchable)]
    pub sku: Option<String>,
    /// What it is.
    #[field(multiline, searchable)]
    pub description: Option<String>,
    /// The group that it belongs to.
    #[field(max_len = 100)]
    pub category: Option<String>,
    /// What one unit costs; at most four decimals.
    #[field(currency = "currency", min = 0)]
    pub unit_price: Option<Decimal>,
    /// The currency of the price.
    pub currency: Currency,
    /// Whether it is put on new lines.
    #[field(default = true)]
    pub is_active: bool,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
}

/// What a product costs in another currency than its own.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "product_price",
    table = "product_prices",
    unique(product_id, currency; live)
)]
pub struct ProductPrice {
    /// The product.
    #[field(required, references = "product", on_delete = "cascade")]
    pub product_id: Id<Product>,
    /// The currency. In the product's own currency its own price comes first.
    #[field(required)]
    pub currency: Currency,
    /// What one unit costs; at most four decimals.
    #[field(required, currency = "currency", min = 0)]
    pub unit_price: Decimal,
}

impl Product {
    /// The price in its own currency.
    #[must_use]
    pub fn price(&self) -> Option<Money> {
        self.unit_price
            .map(|price| Money::new(price, self.currency))
    }
}

impl Records<'_, Product> {
    /// Sets what a product costs in a currency: its own price, where that is its currency or it has
    /// no price yet, else one beside it.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, products::Product, value::Currency};
    /// # async fn example(session: &Session, licence: Id<Product>) -> Result<()> {
    /// session.products().set_price(licence, "1200 EUR".parse()?).await?;
    /// session.products().set_price(licence, "1300 USD".parse()?).await?;
    /// let price = session.products().price_in(licence, Currency::USD).await?;
    /// assert_eq!(price.map(|price| price.to_string()).as_deref(), Some("1300.00 USD"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Validation`](crate::Error::Validation)
    /// for a price below zero or with more than four decimals.
    pub async fn set_price(&mut self, product: Id<Product>, price: Money) -> Result<()> {
        in_work!(self.workspace, |work| {
            // Two who set the first price in a currency: the slower one changes the other's.
            work.contend("product_price", &["product_id", "currency"]);
            let record = work.get(product).await?;
            work.rely_on(&*record);
            let (amount, currency) = (price.amount(), price.currency());
            if record.currency == currency || record.unit_price.is_none() {
                let own = |product: &mut Product| {
                    product.unit_price = Some(amount);
                    product.currency = currency;
                };
                work.update_record(record, &own).await?;
                return Ok(());
            }
            match price_entry(work, product, currency).await? {
                Some(entry) => {
                    let set = |entry: &mut ProductPrice| entry.unit_price = amount;
                    work.update_record(entry, &set).await?;
                }
                None => {
                    work.create(ProductPrice::new(product, currency, amount))
                        .await?;
                }
            }
            Ok(())
        })
    }

    /// What a product costs in a currency, if it has a price in it. Nothing is converted.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn price_in(
        &self,
        product: Id<Product>,
        currency: Currency,
    ) -> Result<Option<Money>> {
        let mut begun = None;
        let work = self.workspace.reading(&mut begun);
        let product = work.get(product).await?;
        price_of(work, &product, currency).await
    }

    /// The prices of a product beside its own, by currency.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn prices(&mut self, product: Id<Product>) -> Result<Vec<Arc<Record<ProductPrice>>>> {
        let prices: Result<Vec<_>> = in_work!(self.workspace, |work| {
            work.get(product).await?;
            let all = ProductPrice::PRODUCT_ID.eq(product);
            let mut prices = work.find_all(all, Vec::new()).await?;
            prices.sort_by_key(|price: &Arc<Record<ProductPrice>>| price.currency);
            Ok(prices)
        });
        let prices = prices?;
        self.workspace.hand_out(&prices).await?;
        Ok(prices)
    }
}

/// What a product costs in a currency: its own price comes first.
pub(crate) async fn price_of(
    work: &UnitOfWork,
    product: &Record<Product>,
    currency: Currency,
) -> Result<Option<Money>> {
    if product.currency == currency && product.unit_price.is_some() {
        return Ok(product.price());
    }
    let entry = price_entry(work, product.id, currency).await?;
    Ok(entry.map(|entry| Money::new(entry.unit_price, currency)))
}

/// How many prices are remembered of a tenant at once.
const REMEMBERED: usize = 1_000;

/// Prices by product and currency.
type Prices = HashMap<(Id<Product>, Currency), Arc<Record<ProductPrice>>>;

/// Prices that lines copied lately.
#[derive(Default)]
struct Lately(Mutex<Prices>);

#[async_trait]
impl Remembered for Lately {
    const OBJECTS: &'static [&'static str] = &["product", "product_price"];

    /// Begins empty: a price is read when it is asked for.
    async fn load(_: &UnitOfWork) -> Result<Self> {
        Ok(Self::default())
    }
}

impl Lately {
    fn prices(&self) -> MutexGuard<'_, Prices> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a product costs in a currency, to be copied: who changes the price meanwhile is before or
/// after that. One price is read once, however many lines have it.
pub(crate) async fn copied_price(
    work: &mut UnitOfWork,
    product: &Record<Product>,
    currency: Currency,
) -> Result<Option<Money>> {
    if product.currency == currency && product.unit_price.is_some() {
        return Ok(product.price());
    }
    let lately = work.remembered::<Lately>().await?;
    let key = (product.id, currency);
    let known = lately.prices().get(&key).cloned();
    let entry = match known {
        Some(entry) => entry,
        None => {
            let Some(entry) = price_entry(work, product.id, currency).await? else {
                return Ok(None);
            };
            let mut prices = lately.prices();
            if prices.len() >= REMEMBERED {
                prices.clear();
            }
            prices.insert(key, entry.clone());
            entry
        }
    };
    work.rely_on(&*entry);
    Ok(Some(Money::new(entry.unit_price, currency)))
}

async fn price_entry(
    work: &UnitOfWork,
    product: Id<Product>,
    currency: Currency,
) -> Result<Option<Arc<Record<ProductPrice>>>> {
    let wanted = ProductPrice::PRODUCT_ID
        .eq(product)
        .and(ProductPrice::CURRENCY.eq(currency));
    Ok(work.find_all(wanted, Vec::new()).await?.pop())
}
