//! Where asynchronous commands run.

use std::pin::Pin;

use crate::error::{Context as _, Result};

/// Everything asynchronous runs on this one thread: children are spawned from it, and no state is shared. Boxed, or the runtime
/// would be compiled once for each command.
pub(super) fn block_on(future: Pin<Box<dyn Future<Output = Result<i32>> + '_>>) -> Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .infra(|| "cannot start the runtime".into())?;
    let result = runtime.block_on(future);
    // A blocked helper thread must not keep the command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
