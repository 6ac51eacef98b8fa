// A session of client-go: typed and dynamic informers beside writes; what they saw, one JSON line each.
//
// Usage: client-go-session KUBECONFIG NAMESPACE
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const patience = 60 * time.Second

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func say(what string, value any) {
	text := must(json.Marshal(map[string]any{"what": what, "value": value}))
	fmt.Println(string(text))
}

func await(what string, seen <-chan string, wanted string) {
	deadline := time.After(patience)
	for {
		select {
		case event := <-seen:
			say(what, event)
			if event == wanted {
				return
			}
		case <-deadline:
			fmt.Fprintf(os.Stderr, "waited in vain for %s of %s\n", wanted, what)
			os.Exit(1)
		}
	}
}

func observe(informer cache.SharedIndexInformer) <-chan string {
	seen := make(chan string, 1000)
	name := func(event string, object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		seen <- event + " " + object.(meta.Object).GetName()
	}
	must(informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { name("add", object) },
		UpdateFunc: func(before, after any) { name("update", after) },
		DeleteFunc: func(object any) { name("delete", object) },
	}))
	return seen
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config := must(clientcmd.BuildConfigFromFlags("", os.Args[1]))
	namespace := os.Args[2]
	client := must(kubernetes.NewForConfig(config))
	must(client.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: namespace}}, meta.CreateOptions{}))

	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace), informers.WithTweakListOptions(func(options *meta.ListOptions) { options.LabelSelector = "app=session" }))
	maps := observe(factory.Core().V1().ConfigMaps().Informer())
	policies := observe(factory.Networking().V1().NetworkPolicies().Informer())
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	say("synced", true)

	labels := map[string]string{"app": "session"}
	configMaps := client.CoreV1().ConfigMaps(namespace)
	must(configMaps.Create(ctx, &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "one", Labels: labels}, Data: map[string]string{"text": "<a> & b"}}, meta.CreateOptions{}))
	await("config maps", maps, "add one")
	must(configMaps.Patch(ctx, "one", types.StrategicMergePatchType, []byte(`{"data":{"more":"1"}}`), meta.PatchOptions{}))
	await("config maps", maps, "update one")
	policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Name: "session", Labels: labels}, Spec: networking.NetworkPolicySpec{Ingress: []networking.NetworkPolicyIngressRule{{}}}}
	made := must(client.NetworkingV1().NetworkPolicies(namespace).Create(ctx, policy, meta.CreateOptions{}))
	say("policy types", made.Spec.PolicyTypes)
	await("policies", policies, "add session")
	if err := configMaps.Delete(ctx, "one", meta.DeleteOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	await("config maps", maps, "delete one")

	pools := schema.GroupVersionResource{Group: "projectcalico.org", Version: "v3", Resource: "ippools"}
	anything := dynamicinformer.NewDynamicSharedInformerFactory(must(dynamic.NewForConfig(config)), 0)
	seen := observe(anything.ForResource(pools).Informer())
	anything.Start(ctx.Done())
	await("pools", seen, "add default-ipv4-ippool")

	_, err := client.CoreV1().Pods(namespace).Get(ctx, "none", meta.GetOptions{})
	say("missing pod is not found", errors.IsNotFound(err))
	if err := client.CoreV1().Namespaces().Delete(ctx, namespace, meta.DeleteOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say("end", true)
}
