// Package export_gatepost_policy_configure is asked once for each instance, before all else.
package export_gatepost_policy_configure

import (
	"{{name}}/guest/gatepost_policy_configure"
	"{{name}}/policy"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

type registration = gatepost_policy_configure.Registration

// Configure reads the configuration. An error keeps the plugin from going live.
func Configure() wit.Result[registration, string] {
	if err := policy.Configure(); err != nil {
		return wit.Err[registration](err.Error())
	}
	return wit.Ok[registration, string](registration{
		Name: "{{name}}", Version: "0.1.0", Description: "Refuses recipients who have left",
	})
}
