"""Config nodes of what other packages bring along: nothing of theirs need be written, or is imported."""

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from cbnorm import plugins
from cbnorm.config.choices import needs_clusters, refuse_ambiguous
from cbnorm.data import extend


def declare() -> None:
    """Let Hydra compose what other packages declare; nothing of theirs is imported."""
    store = ConfigStore.instance()
    for kind in plugins.GROUPS:
        for name in plugins.names(kind):
            try:
                refuse_ambiguous(kind, name)
            except plugins.PluginError:
                continue  # told when somebody asks for it
            package = "_global_" if kind == "experiment" else None
            store.store(group=kind, name=name, node=_node(kind, name), package=package)


def _node(kind: str, name: str) -> DictConfig:
    if kind == "experiment":
        return OmegaConf.create({"experiment": name})
    # Options that only our own read come along, and are ignored: presets of a protocol may speak of them.
    defaults: list[Any] = [f"/{_LIKE[kind]}@_here_", "_self_"]
    if kind == "norm" and needs_clusters(name):
        defaults.append({"override /partition@_global_.partition": "preset"})
    values = _IMAGE_SET if kind == "dataset" else {}
    node: DictConfig = OmegaConf.create({"defaults": defaults, "name": name, **values})
    if kind in {"norm", "model"}:
        # Which options there are is known only to the package: any can be set.
        node.options = DictConfig({}, flags={"struct": False})
    return node


_LIKE = {"norm": "_base/norm", "model": "model/shallow_cnn", "dataset": "dataset/digits"}
_IMAGE_SET: dict[str, Any] = {
    "image_size": "${image_set:image_size}",
    "val_images": "${image_set:val_images}",
    "split": "stratified",  # nobody knows the order of their files
    "augmentation": {option: f"${{image_set:{option}}}" for option in ("flip", "rotation", "zoom")},
}


def _default(option: str, *, _root_: DictConfig) -> Any:
    return extend.default(_root_.dataset.name, option)


OmegaConf.register_new_resolver("image_set", _default, replace=True)
