"""The generic data set, registered through the same door as anybody's."""

from medusa_core.api import DatasetSpec, hookimpl


@hookimpl
def medusa_register_datasets() -> list[DatasetSpec]:
    """Anyone's own images and labels."""
    return [
        DatasetSpec(
            name="folder",
            title="Your own images and labels: DIR/dataset.json, image files, target files",
            implementation="medusa_core.data.folder:FolderDataset",
            location="required",
        )
    ]
