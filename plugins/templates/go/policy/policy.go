// Package policy holds what the stages share.
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"{{name}}/guest/gatepost_policy_config"
	"{{name}}/guest/gatepost_policy_kv"
	"{{name}}/guest/gatepost_policy_log"
	"{{name}}/guest/gatepost_policy_types"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

const hour = 3600

// Settings is the plugin's table of the configuration.
type Settings struct {
	// Refused holds addresses.
	Refused []string `json:"refused"`
	// Patience is the number of refusals in an hour after which a client is disconnected.
	Patience uint32 `json:"patience"`
}

// Current is a cache: an instance may vanish between any two stages and be configured anew.
// What has to outlive a call belongs in kv.
var Current Settings

// Configure reads the settings.
func Configure() error {
	settings := Settings{Patience: 3}
	if err := json.Unmarshal([]byte(gatepost_policy_config.Json()), &settings); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && strings.HasPrefix(wrong.Field, "patience") {
			return errors.New("`patience` has to be a number from 0 on")
		}
		return errors.New("`refused` has to be a list of addresses")
	}
	if settings.Refused == nil {
		return errors.New("`refused` has to be a list of addresses")
	}
	Current = settings
	return nil
}

// IsRefused says whether an address is listed.
func (s *Settings) IsRefused(address string) bool {
	for _, refused := range s.Refused {
		if strings.EqualFold(refused, address) {
			return true
		}
	}
	return false
}

// CountRefusal counts one more refusal for a client, and says how many that makes within the hour.
func CountRefusal(client string) int64 {
	counted := gatepost_policy_kv.Increment(key(client), 1, wit.Some[uint32](hour))
	if counted.IsErr() { // without the store nobody is disconnected
		gatepost_policy_log.Write(gatepost_policy_log.LevelWarn, "refusals are not counted", nil)
		return 0
	}
	gatepost_policy_log.Write(gatepost_policy_log.LevelInfo, "refused", []wit.Tuple2[string, string]{
		{F0: "client", F1: client}, {F0: "refusals", F1: strconv.FormatInt(counted.Ok(), 10)},
	})
	return counted.Ok()
}

// Refusals says how many refusals a client had within the hour; empty if none.
func Refusals(client string) string {
	refusals := gatepost_policy_kv.Get(key(client))
	if refusals.IsErr() {
		panic("no answer from the store") // the call fails: on-error decides
	}
	return string(refusals.Ok().SomeOr(nil))
}

// Reply makes a reply of one line, 550 5.1.1 from (550, 1, 1, …).
func Reply(code, subject, detail uint16, format string, values ...any) wit.Option[gatepost_policy_types.Reply] {
	return wit.Some(gatepost_policy_types.Reply{
		Code:     code,
		Enhanced: wit.Some(gatepost_policy_types.EnhancedStatus{Subject: subject, Detail: detail}),
		Lines:    []string{fmt.Sprintf(format, values...)},
	})
}

func key(client string) string { return "refused/" + client }
