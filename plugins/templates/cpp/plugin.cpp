// Refuses recipients who have left, and clients that go on guessing.

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <set>
#include <string>
#include <tuple>

#include "generated/guest_cpp.h"

namespace host = gatepost::policy;
namespace stages = exports::gatepost::policy;

namespace {

constexpr uint32_t hour = 3600;

struct Settings {
  std::set<std::string> refused;  // addresses, in lower case
  int64_t patience = 3;           // so many refusals in an hour, then the client is disconnected
};

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
Settings settings;

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return result;
}

wit::string owned(std::string_view text) { return wit::string::from_view(text); }

host::types::Reply reply(uint16_t code, uint16_t subject, uint16_t detail, std::string_view text) {
  auto lines = wit::vector<wit::string>::allocate(1);
  lines.initialize(0, owned(text));
  return {code, host::types::EnhancedStatus{subject, detail}, std::move(lines)};
}

std::string client_key(const host::message::Session& session) {
  return "refused/" + session.Info().client.ip.to_string();
}

void log_line(host::log::Level level, std::string_view message, std::string_view name, std::string_view value) {
  std::array fields{std::tuple{name, value}};
  host::log::Write(level, message, fields);
}

// One more refusal for this client; how many that makes within the hour.
int64_t count_refusal(const host::message::Session& session) {
  auto refusals = host::kv::Increment(client_key(session), 1, hour);
  if (!refusals) {  // without the store nobody is disconnected
    log_line(host::log::Level::kWarn, "refusals are not counted", "store", "no answer");
    return 0;
  }
  log_line(host::log::Level::kInfo, "refused", "refusals", std::to_string(*refusals));
  return *refusals;
}

}  // namespace

std::expected<stages::configure::Registration, wit::string> stages::configure::Configure() {
  auto list = host::config::Get("refused");
  if (!list || !list->get_view().starts_with('[')) {
    return std::unexpected(owned("`refused` has to be a list of addresses"));
  }
  for (size_t place = 0;; place++) {
    auto address = host::config::Get("refused." + std::to_string(place));
    if (!address) break;
    settings.refused.insert(lower(address->get_view()));
  }
  if (auto patience = host::config::Get("patience")) {
    auto [end, fault] = std::from_chars(patience->begin(), patience->end(), settings.patience);
    if (fault != std::errc() || end != patience->end() || settings.patience < 0) {
      return std::unexpected(owned("`patience` has to be a number from 0 on"));
    }
  }
  return Registration{owned("{{name}}"), owned("0.1.0"), owned("Refuses recipients who have left")};
}

stages::on_rcpt::Decision stages::on_rcpt::Rcpt(std::reference_wrapper<const Session> session,
                                                std::reference_wrapper<const Transaction>, Recipient recipient) {
  auto address = lower(recipient.address.get_view());
  if (!settings.refused.contains(address)) return {Verdict{Verdict::Next{}}, {}, {}};
  auto refusals = count_refusal(session);
  if (refusals > settings.patience) {
    Verdict::Disconnect verdict{reply(421, 7, 0, "Too many recipients who are not here")};
    auto reason = "refusal " + std::to_string(refusals) + " within the hour";
    return {Verdict{std::move(verdict)}, owned(reason), owned("patience")};
  }
  Verdict::Reject verdict{reply(550, 1, 1, address + " is not here any more")};
  return {Verdict{std::move(verdict)}, owned(address + " is listed"), owned("refused")};
}

stages::on_data::Decision stages::on_data::Data(std::reference_wrapper<const Session> session,
                                                std::reference_wrapper<const Transaction> transaction,
                                                std::reference_wrapper<const Content> content) {
  auto refusals = host::kv::Get(client_key(session));
  if (!refusals) std::abort();  // the call fails: `on-error` decides
  if (!*refusals) return {Verdict{Verdict::Next{}}, {}, {}};
  std::string number(reinterpret_cast<const char*>((*refusals)->data()), (*refusals)->size());
  if (!content.get().PrependHeader("X-Refused-Recipients", number)) std::abort();
  if (!transaction.get().AddTag("guesser")) std::abort();
  return {Verdict{Verdict::Next{}}, owned(number + " refused before"), owned("guesser")};
}

// What the library says before it gives up would need a standard error: it just traps.
void std::__libcpp_verbose_abort(const char*, ...) noexcept { __builtin_trap(); }
