// cyclonus' generated policies, each probed from every pod to every pod and compared with what cyclonus expects; one JSON line for each case.
//
// Its own command line probes by one exec for each pair of pods; this one asks its worker, which lies in the image, for all pairs of a pod.
//
// Usage: cyclonus KUBECONFIG REGISTRY REGEX
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"

	"github.com/mattfenwick/cyclonus/pkg/cli"
	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	core "k8s.io/api/core/v1"
)

const (
	podSeconds     = 300
	settledSeconds = 3
	jobSeconds     = 10
	retries        = 1
)

// What a run prints: first how many cases there are, then each as it ends.
type line struct {
	Cases  int    `json:"cases,omitempty"`
	Case   string `json:"case,omitempty"`
	Passed bool   `json:"passed"`
	Error  string `json:"error,omitempty"`
}

func say(what line) {
	text, err := json.Marshal(what)
	check(err)
	fmt.Fprintln(os.Stdout, string(text))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: cyclonus KUBECONFIG REGISTRY REGEX")
		os.Exit(2)
	}
	wanted, err := regexp.Compile(os.Args[3])
	check(err)
	check(os.Setenv("KUBECONFIG", os.Args[1]))
	kubernetes, err := kube.NewKubernetesForContext("")
	check(err)
	// What cyclonus prints for people is no JSON.
	out := os.Stdout
	os.Stdout = os.Stderr
	namespaces := []string{"x", "y", "z"}
	resources, err := probe.NewDefaultResources(
		kubernetes, namespaces, []string{"a", "b", "c"}, []int{80, 81}, []core.Protocol{core.ProtocolTCP, core.ProtocolUDP},
		nil, podSeconds, false, os.Args[2])
	check(err)
	interpreter := connectivity.NewInterpreter(kubernetes, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		KubeProbeRetries:                 retries,
		PerturbationWaitSeconds:          settledSeconds,
		VerifyClusterStateBeforeTestCase: true,
		BatchJobs:                        true,
		JobTimeoutSeconds:                jobSeconds,
	})
	printer := &connectivity.Printer{}
	zc, err := resources.GetPod("z", "c")
	check(err)
	var cases []*generator.TestCase
	for _, one := range generator.NewTestCaseGenerator(true, zc.IP, namespaces, nil, cli.DefaultExcludeTags).GenerateTestCases() {
		if wanted.MatchString(one.Description) {
			cases = append(cases, one)
		}
	}
	report := func(what line) {
		os.Stdout = out
		say(what)
		os.Stdout = os.Stderr
	}
	report(line{Cases: len(cases)})
	for _, one := range cases {
		result := interpreter.ExecuteTestCase(one)
		printer.PrintTestCaseResult(result)
		if result.Err != nil {
			report(line{Case: one.Description, Error: result.Err.Error()})
		} else {
			report(line{Case: one.Description, Passed: result.Passed(false)})
		}
	}
}
