// Package export_gatepost_policy_on_data is asked about each message when its content is here.
package export_gatepost_policy_on_data

import (
	. "{{name}}/guest/gatepost_policy_on_data"
	"{{name}}/policy"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Data marks what comes from a client that was refused before.
func Data(session *Session, transaction *Transaction, content *Content) Decision {
	defer session.Drop()
	defer transaction.Drop()
	defer content.Drop()
	refusals := policy.Refusals(session.Info().Client.Ip)
	if refusals == "" {
		return Decision{Verdict: MakeVerdictNext()}
	}
	if content.PrependHeader("X-Refused-Recipients", refusals).IsErr() || transaction.AddTag("guesser").IsErr() {
		panic("an edit was refused") // the call fails: on-error decides
	}
	return Decision{
		Verdict: MakeVerdictNext(),
		Reason:  wit.Some(refusals + " refused before"),
		Rule:    wit.Some("guesser"),
	}
}
