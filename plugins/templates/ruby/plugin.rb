# Refuses recipients who have left, and clients that go on guessing.

class Plugin
  HOUR = 3600

  # A cache: an instance may vanish between any two stages and be configured anew. What has to
  # outlive a call belongs in Host.increment and its like.
  def initialize
    @refused = Set.new     # addresses, in lower case
    @patience = 3          # so many refusals in an hour, then the client is disconnected
  end

  # Says who it is. What it raises is what is wrong with the configuration.
  def configure
    unless Host.config("refused")&.start_with?("[")
      raise ArgumentError, "`refused` has to be a list of addresses"
    end
    place = 0
    while address = Host.config("refused.#{place}")
      @refused << address.downcase
      place += 1
    end
    @patience = natural(Host.config("patience")) || @patience
    { name: "{{name}}", version: "0.1.0", description: "Refuses recipients who have left" }
  end

  # A decision; nil stands for `next`, without reason and rule.
  def rcpt(session, recipient)
    address = recipient.address.downcase
    return unless @refused.include?(address)
    refusals = count(session)
    if refusals > @patience
      {
        verdict: :disconnect, code: 421, enhanced: [7, 0], text: "Too many recipients who are not here",
        reason: "refusal #{refusals} within the hour", rule: "patience",
      }
    else
      {
        verdict: :reject, code: 550, enhanced: [1, 1], text: "#{address} is not here any more",
        reason: "#{address} is listed", rule: "refused",
      }
    end
  end

  # What is raised and not rescued fails the call: `on-error` decides.
  def data(session)
    refusals = Host.get(key(session)) or return
    Host.prepend_header("X-Refused-Recipients", refusals)
    Host.add_tag("guesser")
    { reason: "#{refusals} refused before", rule: "guesser" }
  end

  private

  def natural(value)
    return unless value
    number = Integer(value, 10) rescue -1
    raise ArgumentError, "`patience` has to be a number from 0 on" if number.negative?
    number
  end

  def key(session)
    "refused/#{session.client}"
  end

  # One more refusal for this client; how many that makes within the hour.
  def count(session)
    refusals = Host.increment(key(session), 1, HOUR)
    Host.log(:info, "refused", refusals: refusals)
    refusals
  rescue Host::Error # without the store nobody is disconnected
    Host.log(:warn, "refusals are not counted", store: "no answer")
    0
  end
end
