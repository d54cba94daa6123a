// Package export_gatepost_policy_on_rcpt is asked about each recipient.
package export_gatepost_policy_on_rcpt

import (
	"fmt"
	"strings"

	. "{{name}}/guest/gatepost_policy_on_rcpt"
	"{{name}}/policy"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Rcpt refuses who is listed.
func Rcpt(session *Session, transaction *Transaction, recipient Recipient) Decision {
	defer session.Drop()
	defer transaction.Drop()
	address := strings.ToLower(recipient.Address)
	if !policy.Current.IsRefused(address) {
		return Decision{Verdict: MakeVerdictNext()}
	}
	refusals := policy.CountRefusal(session.Info().Client.Ip)
	if refusals > int64(policy.Current.Patience) {
		return Decision{
			Verdict: MakeVerdictDisconnect(policy.Reply(421, 7, 0, "Too many recipients who are not here")),
			Reason:  wit.Some(fmt.Sprintf("refusal %d within the hour", refusals)),
			Rule:    wit.Some("patience"),
		}
	}
	return Decision{
		Verdict: MakeVerdictReject(policy.Reply(550, 1, 1, "%s is not here any more", address)),
		Reason:  wit.Some(address + " is listed"),
		Rule:    wit.Some("refused"),
	}
}
