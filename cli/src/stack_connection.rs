//! A connection to a deployed stack: everything is found by its state machines' names and tags.

use std::sync::Arc;

use highwater_aws::{Clients, SfnExecutions};
use highwater_domain::executions::Executions;
use highwater_steps::deps::Unobserved;
use highwater_steps::stack::{Stack, StackError, StackPorts};
use highwater_steps::{RestoreDeps, StopFlag};

use crate::args::Global;
use crate::args::stack::StackFlags;
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::stack_trouble::{StackTrouble, command};

/// A stack that was found, and how to ask it.
pub struct StackConnection {
    /// The stack.
    pub stack: Stack,
    /// Its executions, and its control table.
    pub ports: StackPorts,
    flags: StackFlags,
    /// The command's flags, but with the stack's control table.
    global: Global,
    clients: Clients,
    control: Control,
}

impl StackConnection {
    /// Finds the stack, and opens its control table.
    pub async fn open(
        flags: &StackFlags,
        global: &Global,
        console: Console,
    ) -> Result<Self, CliError> {
        let settings = highwater_aws::ConnectionSettings {
            sfn_endpoint_url: flags.sfn_endpoint_url.clone(),
            ..connect::settings(global)
        };
        let executions: Arc<dyn Executions> = Arc::new(SfnExecutions::connect(&settings).await?);
        let stack = Stack::find(executions.as_ref(), &flags.stack)
            .await
            .map_err(|error| StackTrouble::of(&error, flags, global))?;
        let global = Global {
            control_table: stack.tags.control_table.clone(),
            control: None,
            ..global.clone()
        };
        let clients = Clients::connect(&settings).await?;
        let control = connect::control(&global, console, Absent::Leave).await?;
        Ok(Self {
            ports: StackPorts {
                executions,
                control: control.table.clone(),
                restores: control.restores.clone(),
            },
            stack,
            flags: flags.clone(),
            global,
            clients,
            control,
        })
    }

    /// The steps' ports, as the stack's own functions have them.
    pub fn deps(&self) -> RestoreDeps {
        connect::restore_deps(
            &self.clients,
            &self.control,
            Some(&self.stack.tags.control_table),
            Arc::new(Unobserved),
            StopFlag::default(),
        )
    }

    /// The command's flags, but with the stack's control table.
    pub fn global(&self) -> &Global {
        &self.global
    }

    /// A command for this stack that works as it is printed.
    pub fn command(&self, words: &str) -> String {
        command(words, &self.flags, &self.global)
    }

    /// An error of this stack, with its way out.
    pub fn trouble(&self, error: &StackError) -> CliError {
        StackTrouble::of(error, &self.flags, &self.global).into()
    }
}
