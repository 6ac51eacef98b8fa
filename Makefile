# One command runs it (make lab), one tests it (make test); each does its own set-up on a Debian machine with Node.js and npm.
BUN := tools/bun/node_modules/.bin/bun
NAME ?= lab

.PHONY: lab lab-kubernetes lab-down test test-kubernetes test-kernels conformance bench bench-graph bench-dataplanes bench-scale bench-kubernetes build check format setup

lab: build
	@bin/calico-lab up --name $(NAME) $(LAB_FLAGS)

# The same lab on Kubernetes' own API server, which is built from Go modules the first time.
lab-kubernetes: build
	@path=$$($(BUN) test/kubernetes/build/binaries.ts) && PATH="$$path:$$PATH" bin/calico-lab up --api kubernetes --name $(NAME) $(LAB_FLAGS)

lab-down: build
	@bin/calico-lab down --name $(NAME)

# SUITES="unit kernel" runs those alone; SEEDS=20000 SUITES=sim simulates so many clusters.
test: setup-test
	@$(MAKE) --no-print-directory -j2 build check
	@$(BUN) tools/test.ts $(SUITES)

# The product on a real kube-apiserver, kubelet, containerd and kube-proxy; cold it builds them from Go modules, some 12 minutes.
test-kubernetes: setup-test build
	@$(BUN) test/kubernetes/main.ts

# The kernel tests on other kernels, in emulated machines: KERNELS="linux-image-….deb …" TESTS="test/kernel/law.test.ts …".
test-kernels: setup-test build
	@$(BUN) test/kernels/main.ts

# Kubernetes' own e2e.test on the cluster of test-kubernetes, whole on every dataplane:
# CONFORMANCE_FLAGS="--dataplane nftables,ebpf --suite netpol --focus 'ingress' --report FILE".
conformance: setup-test build
	@$(BUN) test/kubernetes/conformance/main.ts $(CONFORMANCE_FLAGS)

bench: setup-test build
	@$(BUN) test/bench/main.ts

# What the calculation of one node costs with 100,000 pods and 10,000 policies; it needs no lab.
bench-graph: setup-test
	@$(BUN) test/bench/graph.ts

# Each dataplane with 10 and 10,000 policies: what changes, packets and new connections cost; it needs no lab.
bench-dataplanes: setup-test
	@$(BUN) test/bench/dataplanes.ts

# One node in clusters of up to 10,000 policies and 100,000 pods: BENCH_FLAGS="--size 10k/100k --pods lean --phase churn --dataplane ebpf --json FILE".
bench-scale: setup-test build
	@$(BUN) test/bench/scale/main.ts $(BENCH_FLAGS)

# What the start of a pod costs under both container runtimes, on the cluster of test-kubernetes.
bench-kubernetes: setup-test build
	@$(BUN) test/bench/kubernetes.ts

check:
	@$(BUN) x tsc -p .
	@$(BUN) x oxfmt --check --no-error-on-unmatched-pattern src lab test tools >/dev/null || { echo "check: files are not formatted: run make format" >&2; $(BUN) x oxfmt --list-different src lab test tools >&2; exit 1; }
	@$(BUN) x oxlint --deny-warnings src lab test tools
	@$(BUN) tools/generate-crds.ts --check

format:
	@$(BUN) x oxfmt src lab test tools

build: setup
	@tools/build

setup:
	@tools/setup run

.PHONY: setup-test
setup-test:
	@tools/setup test
