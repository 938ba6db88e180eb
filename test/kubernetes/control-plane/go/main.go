// Kubernetes' control plane in one program, so that what its parts share is compiled and linked once. Its first argument
// says which part it is.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	parts := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllermanager.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	}
	os.Args = os.Args[1:]
	if len(os.Args) == 0 || parts[os.Args[0]] == nil {
		fmt.Fprintln(os.Stderr, "The first argument must be kube-apiserver, kube-controller-manager or kube-scheduler.")
		os.Exit(2)
	}
	os.Exit(cli.Run(parts[os.Args[0]]()))
}
