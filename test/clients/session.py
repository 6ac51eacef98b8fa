"""A session of the Python client: objects made, watched, patched and deleted; what it saw, one JSON line each.

Usage: session.py KUBECONFIG NAMESPACE
"""
import json
import sys
import threading

from kubernetes import client, config, watch

kubeconfig, namespace = sys.argv[1:3]
config.load_kube_config(config_file=kubeconfig)
core = client.CoreV1Api()
networking = client.NetworkingV1Api()
custom = client.CustomObjectsApi()


def say(what, **fields):
    print(json.dumps({"what": what, **fields}), flush=True)


def observe(what, wanted, ready, function, *args, **options):
    """Watches until the event `wanted`; the first event may come long after the watch began."""
    watcher = watch.Watch()
    ready.set()
    for event in watcher.stream(function, *args, **options):
        raw = event["raw_object"]
        say(what, type=event["type"], name=raw["metadata"]["name"])
        if (event["type"], raw["metadata"]["name"]) == wanted:
            watcher.stop()


core.create_namespace({"metadata": {"name": namespace}})
say("namespace", name=core.read_namespace(namespace).metadata.name)

version = core.list_namespaced_config_map(namespace).metadata.resource_version
begun = threading.Event()
watching = threading.Thread(
    target=observe,
    args=("config maps", ("DELETED", "two"), begun, core.list_namespaced_config_map, namespace),
    kwargs={"resource_version": version, "label_selector": "app=session"},
)
watching.start()
begun.wait()
for name in ("one", "two"):
    core.create_namespaced_config_map(namespace, {"metadata": {"name": name, "labels": {"app": "session"}}, "data": {"text": "<a> & b"}})
core.patch_namespaced_config_map("one", namespace, {"data": {"more": "1"}})
for name in ("one", "two"):
    core.delete_namespaced_config_map(name, namespace)
watching.join()

policy = {
    "metadata": {"name": "session"},
    "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}]}]},
}
made = networking.create_namespaced_network_policy(namespace, policy)
say("policy", types=made.spec.policy_types, cidr=made.spec.ingress[0]._from[0].ip_block.cidr)
say("policies", names=[item.metadata.name for item in networking.list_namespaced_network_policy(namespace).items])

pools = custom.list_cluster_custom_object("projectcalico.org", "v3", "ippools")
say("pools", kinds=sorted({item["kind"] for item in pools["items"]}))
observe("pools watched", ("ADDED", pools["items"][0]["metadata"]["name"]), threading.Event(), custom.list_cluster_custom_object, "projectcalico.org", "v3", "ippools")

try:
    core.read_namespaced_pod("none", namespace)
except client.exceptions.ApiException as error:
    say("missing pod", status=error.status, reason=json.loads(error.body)["reason"])

core.delete_namespace(namespace)
say("end")
