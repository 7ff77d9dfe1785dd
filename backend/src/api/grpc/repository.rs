//! The methods of the model repository extension: what [REST](crate::api) does, in other messages.

use aegis_protocol::ChangeRequest;
use aegis_protocol::grpc::{
    RepositoryChangeRequest, RepositoryChangeResponse, RepositoryIndexRequest,
    RepositoryIndexResponse,
};

use super::{Answer, Refused, Upload, answer, decode};
use crate::api::repository;
use crate::app::App;

/// Answers the method that this path ends with.
pub(super) async fn call(app: &App, path: &str, call: &Upload) -> Result<Answer, Refused> {
    if path.ends_with("/RepositoryIndex") {
        let request: RepositoryIndexRequest = decode(&call.bytes)?;
        let lines = repository::lines(app, request.ready).await?;
        let models = lines.into_iter().map(Into::into).collect();
        return Ok(answer(&RepositoryIndexResponse { models }));
    }
    // Nothing is read of what is refused in any case.
    app.models.control().check()?;
    let mut request = RepositoryChangeRequest::read(&call.bytes)?;
    let model = std::mem::take(&mut request.model_name);
    let change = ChangeRequest::from(request);
    if path.ends_with("/RepositoryModelLoad") {
        repository::change_load(app, &model, &change).await?;
    } else {
        repository::change_unload(app, &model, &change).await?;
    }
    Ok(answer(&RepositoryChangeResponse {}))
}
