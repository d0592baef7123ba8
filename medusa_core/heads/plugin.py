"""The built-in head architectures, registered through the same door as anybody's."""

from medusa_core.api import HeadSpec, hookimpl


@hookimpl
def medusa_register_heads() -> list[HeadSpec]:
    """The default head and the baselines."""
    return [
        HeadSpec(
            name="medusa",
            title="Feature attention + multi-scale attention",
            implementation="medusa_core.heads.medusa:MedusaHead",
            config_model="medusa_core.heads.configs:MedusaConfig",
        ),
        HeadSpec(
            name="constant",
            title="A learned constant, blind to the image",
            implementation="medusa_core.heads.baselines:ConstantHead",
            config_model="medusa_core.heads.configs:BaselineConfig",
            blind=True,
        ),
        HeadSpec(
            name="linear",
            title="1×1 on the deepest level",
            implementation="medusa_core.heads.baselines:LinearHead",
            config_model="medusa_core.heads.configs:BaselineConfig",
        ),
        HeadSpec(
            name="hypercolumn",
            title="1×1 on all levels",
            implementation="medusa_core.heads.baselines:HypercolumnHead",
            config_model="medusa_core.heads.configs:BaselineConfig",
        ),
    ]
