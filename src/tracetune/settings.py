"""Settings of the Kedro project: configuration loader, resolvers and hooks."""

from tracetune.config import ProjectConfigLoader
from tracetune.hooks import ProjectHooks
from tracetune.resolvers import agent_type, overlay, slug

CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"agent_type": agent_type, "overlay": overlay, "slug": slug},
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    # Exact names: `credentials.example.yml` is for reading, not for loading.
    "config_patterns": {"credentials": ["credentials.yml"]},
}
HOOKS = (ProjectHooks(),)
