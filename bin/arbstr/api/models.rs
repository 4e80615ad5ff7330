//! `/v1/models`: what can be asked for, and what each provider charges for it.

use std::sync::Arc;

use arbstr_route::Listing;
use arbstr_wire::{Model, ModelOffer, write_model, write_models};
use hyper::{Response, StatusCode};

use super::ResponseBody;
use super::error::{ApiError, json_response};
use crate::app::App;

/// `GET /v1/models`: the union over all providers.
pub(crate) fn list(app: &Arc<App>) -> Response<ResponseBody> {
    let live = app.live();
    let models: Vec<Model<'_>> = live
        .market
        .models()
        .map(|listing| model(app, &listing))
        .collect();
    json_response(StatusCode::OK, write_models(&models))
}

/// `GET /v1/models/{id}`; an id may contain slashes, escaped or not.
///
/// # Errors
/// 404 when no provider has the model.
pub(crate) fn one(app: &Arc<App>, path: &str) -> Result<Response<ResponseBody>, ApiError> {
    let id = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let live = app.live();
    match live.market.model(&id) {
        Some(listing) => Ok(json_response(
            StatusCode::OK,
            write_model(&model(app, &listing)),
        )),
        None => Err(ApiError::model_not_found(format!(
            "no provider has the model `{id}`; see /v1/models"
        ))),
    }
}

fn model<'a>(app: &App, listing: &Listing<'a>) -> Model<'a> {
    let providers = listing.offers.iter().map(|offer| ModelOffer {
        name: offer.provider(),
        input_rate: offer.rates().map(|rates| rates.input.to_string().into()),
        output_rate: offer.rates().map(|rates| rates.output.to_string().into()),
        base_fee: offer.rates().map(|rates| rates.base_fee.to_string().into()),
    });
    Model {
        id: listing.name,
        created: app.started_secs(),
        owned_by: "arbstr",
        providers: providers.collect(),
    }
}
