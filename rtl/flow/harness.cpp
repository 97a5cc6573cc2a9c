// The world around the accelerator: clock, AXI-Lite host, one memory behind all AXI4 masters, trace buffers. C ABI for ctypes.
//
// One cycle: inputs are set, the design settles with the clock low, every handshake and trace port is sampled, the clock rises.
// Compiled once per design, with -DROWS=<rows>, -DWEIGHT_PORTS=<read masters m_axi_weights_*, 0..4>, and -DHAS_TRACE (what the rows
// write), -DHAS_STATE (what the array does) and -DHAS_CLK_2X (a clock of twice the rate, in phase) where the design has those ports.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

namespace {

constexpr uint64_t kBeatBytes = 16;
constexpr uint64_t kPageBytes = 4096;  // of the AXI rule: no burst crosses it
constexpr size_t kOutstanding = 16;
constexpr int kLiteLimit = 10000;  // cycles until a register access is given up

struct Config {
    double bytes_per_cycle;   // that all channels together move, outside refresh
    uint32_t latency;         // cycles from an accepted address to its first beat
    uint32_t refresh_period;  // cycles; 0: never
    uint32_t refresh_length;  // cycles without any beat, at the start of each period
    uint32_t stall;           // percent of cycles in which a channel is held back at random
    uint32_t fill;            // the byte that unwritten memory holds
    uint64_t seed;
};

struct WriteRecord {
    uint64_t cycle, address;
    uint8_t data[kBeatBytes];
    uint64_t strobe;
};

struct ErrorRange {
    uint64_t first, last;
    uint8_t response;
    bool reads, writes;
};

class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 0xD1B54A32D192ED03u) {}
    bool chance(uint32_t percent) {
        if (!percent) return false;
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return (state_ >> 33) % 100 < percent;
    }

  private:
    uint64_t state_;
};

class Memory {
  public:
    explicit Memory(uint8_t fill) : fill_(fill) {}
    void copy_in(uint64_t address, const uint8_t* data, uint64_t size) {
        each_part(address, size, [&](uint8_t* part, uint64_t done, uint64_t n) { std::memcpy(part, data + done, n); });
    }
    void copy_out(uint64_t address, uint8_t* data, uint64_t size) {
        each_part(address, size, [&](uint8_t* part, uint64_t done, uint64_t n) { std::memcpy(data + done, part, n); });
    }
    uint8_t* beat(uint64_t address) { return page(address / kBlock) + (address % kBlock & ~(kBeatBytes - 1)); }

  private:
    static constexpr uint64_t kBlock = 1 << 16;
    template <class Action>
    void each_part(uint64_t address, uint64_t size, Action action) {
        for (uint64_t done = 0; done < size;) {
            const uint64_t offset = (address + done) % kBlock;
            const uint64_t n = std::min(size - done, kBlock - offset);
            action(page((address + done) / kBlock) + offset, done, n);
            done += n;
        }
    }
    uint8_t* page(uint64_t number) {
        if (last_ && number == last_number_) return last_;
        auto& found = pages_[number];
        if (!found) {
            found = std::make_unique<uint8_t[]>(kBlock);
            std::memset(found.get(), fill_, kBlock);
        }
        last_number_ = number;
        return last_ = found.get();
    }
    uint8_t fill_;
    std::unordered_map<uint64_t, std::unique_ptr<uint8_t[]>> pages_;
    uint64_t last_number_ = 0;
    uint8_t* last_ = nullptr;
};

// What every channel of the memory sees.
struct World {
    Config config;
    Random random;
    Memory memory;
    std::vector<ErrorRange> errors;
    std::vector<WriteRecord> writes;
    std::string violation;
    uint64_t now = 0;
    double credit = 0;  // bytes that may move

    explicit World(const Config& c) : config(c), random(c.seed), memory(c.fill) {}
    bool stalled() { return random.chance(config.stall); }
    bool refreshing() const { return config.refresh_period && now % config.refresh_period < config.refresh_length; }
    // The memory's bandwidth is one pool that every channel draws from. What is not used is lost but for two cycles' worth.
    void refill() {
        if (refreshing()) return;
        credit = std::min(credit + config.bytes_per_cycle, 2 * std::max(config.bytes_per_cycle, double(kBeatBytes)));
    }
    bool can_move() const { return !refreshing() && credit >= kBeatBytes; }
    void spend() { credit -= kBeatBytes; }
    uint8_t response(uint64_t address, bool write) const {
        for (const auto& range : errors)
            if (address >= range.first && address <= range.last && (write ? range.writes : range.reads)) return range.response;
        return 0;
    }
    void violate(const std::string& what) {
        if (violation.empty()) violation = "cycle " + std::to_string(now) + ": " + what;
    }
};

// One address channel (AR or AW): takes requests, holds the master to the rules.
struct AddressPorts {
    CData& valid;
    CData& ready;
    QData& address;
    CData& length;
    CData& size;
    CData& burst;
};

struct Request {
    uint64_t address, due;
    uint32_t beats;
};

class AddressChannel {
  public:
    AddressChannel(World& world, const char* name, AddressPorts ports) : world_(world), name_(name), ports_(ports) {}
    void drive() { ports_.ready = queue.size() < kOutstanding && !world_.stalled(); }
    void sample() {
        if (waiting_ && !(ports_.valid && ports_.address == address_ && ports_.length == length_))
            world_.violate(name_ + ": valid or address changed before ready");
        waiting_ = ports_.valid && !ports_.ready;
        address_ = ports_.address;
        length_ = ports_.length;
        if (ports_.valid && ports_.ready) accept();
    }
    std::deque<Request> queue;

  private:
    void accept() {
        const uint64_t last = (address_ & ~(kBeatBytes - 1)) + length_ * kBeatBytes;
        if (ports_.size != 4) world_.violate(name_ + ": size is not 16 bytes");
        if (ports_.burst != 1) world_.violate(name_ + ": burst is not INCR");
        if (address_ / kPageBytes != last / kPageBytes) world_.violate(name_ + ": burst crosses 4 KiB");
        queue.push_back({address_ & ~(kBeatBytes - 1), world_.now + world_.config.latency, length_ + 1u});
    }
    World& world_;
    std::string name_;
    AddressPorts ports_;
    bool waiting_ = false;
    uint64_t address_ = 0;
    uint32_t length_ = 0;
};

// A data channel: at most one beat per cycle, out of the pool.
class Channel {
  public:
    virtual ~Channel() = default;
    virtual void drive() = 0;
    virtual void sample() = 0;
    virtual void after_edge() = 0;
    uint64_t beats = 0;
    bool moved = false;  // a beat in this cycle
};

struct ReadPorts {
    CData& valid;
    CData& ready;
    CData& last;
    CData& response;
    VlWide<4>& data;
};

class ReadChannel final : public Channel {
  public:
    ReadChannel(World& world, const char* name, AddressPorts address, ReadPorts ports)
        : world_(world), address_(world, name, address), ports_(ports) {}
    void drive() override {
        address_.drive();
        if (ports_.valid || address_.queue.empty() || !world_.can_move() || world_.stalled()) return;
        const Request& head = address_.queue.front();
        if (head.due > world_.now) return;
        world_.spend();
        moved = true;
        ports_.valid = 1;
        ports_.last = head.beats == 1;
        ports_.response = world_.response(head.address, false);
        std::memcpy(ports_.data.data(), world_.memory.beat(head.address), kBeatBytes);
    }
    void sample() override {
        address_.sample();
        if (!ports_.valid || !ports_.ready) return;
        ++beats;
        ports_valid_next_ = false;
        Request& head = address_.queue.front();
        head.address += kBeatBytes;
        if (--head.beats == 0) address_.queue.pop_front();
    }
    void after_edge() override {
        if (!ports_valid_next_) ports_.valid = 0;
        ports_valid_next_ = true;
    }

  private:
    World& world_;
    AddressChannel address_;
    ReadPorts ports_;
    bool ports_valid_next_ = true;
};

struct WritePorts {
    CData& valid;
    CData& ready;
    CData& last;
    SData& strobe;
    VlWide<4>& data;
    CData& answer_valid;
    CData& answer_ready;
    CData& answer;
};

class WriteChannel final : public Channel {
  public:
    WriteChannel(World& world, const char* name, AddressPorts address, WritePorts ports)
        : world_(world), name_(name), address_(world, name, address), ports_(ports) {}
    void drive() override {
        address_.drive();
        ports_.ready = !address_.queue.empty() && world_.can_move() && !world_.stalled();
        if (ports_.answer_valid || answers_.empty() || answers_.front().first > world_.now || world_.stalled()) return;
        ports_.answer_valid = 1;
        ports_.answer = answers_.front().second;
    }
    void sample() override {
        if (waiting_ && !ports_.valid) world_.violate(name_ + ": write data withdrawn before ready");
        waiting_ = ports_.valid && !ports_.ready;
        if (ports_.valid && ports_.ready) accept();
        address_.sample();
        answered_ = ports_.answer_valid && ports_.answer_ready;
    }
    void after_edge() override {
        if (!answered_) return;
        answers_.pop_front();
        ports_.answer_valid = 0;
    }

  private:
    void accept() {
        ++beats;
        world_.spend();
        moved = true;
        Request& head = address_.queue.front();
        WriteRecord record{world_.now, head.address, {}, ports_.strobe};
        std::memcpy(record.data, ports_.data.data(), kBeatBytes);
        world_.writes.push_back(record);
        const uint8_t response = world_.response(head.address, true);
        worst_ = std::max(worst_, response);
        uint8_t* beat = world_.memory.beat(head.address);
        for (uint64_t byte = 0; byte < kBeatBytes && !response; ++byte)
            if (ports_.strobe >> byte & 1) beat[byte] = record.data[byte];
        head.address += kBeatBytes;
        if (ports_.last != (head.beats == 1)) world_.violate(name_ + ": last is not on the last beat");
        if (--head.beats) return;
        address_.queue.pop_front();
        answers_.emplace_back(world_.now + world_.config.latency, worst_);
        worst_ = 0;
    }
    World& world_;
    std::string name_;
    AddressChannel address_;
    WritePorts ports_;
    std::deque<std::pair<uint64_t, uint8_t>> answers_;
    uint8_t worst_ = 0;
    bool waiting_ = false, answered_ = false;
};

// Bit and 16-bit field of a port, whatever type its width gave it.
template <class Port>
uint32_t field(const Port& port, size_t word) {
    return static_cast<uint32_t>(static_cast<uint64_t>(port) >> 32 * word);
}
template <size_t words>
uint32_t field(const VlWide<words>& port, size_t word) {
    return port[word];
}

// What one row wrote, in blocks: nothing is copied as it grows.
class RowTrace {
  public:
    void add(uint32_t cycle, uint16_t value) {
        if (count_ % kEntries == 0) blocks_.push_back(std::make_unique<Block>());
        Block& block = *blocks_.back();
        block.cycles[count_ % kEntries] = cycle;
        block.values[count_++ % kEntries] = value;
    }
    size_t count() const { return count_; }
    void copy_out(uint32_t* cycles, uint16_t* values) const {
        for (size_t done = 0; done < count_; done += kEntries) {
            const size_t n = std::min(kEntries, count_ - done);
            std::memcpy(cycles + done, blocks_[done / kEntries]->cycles, n * sizeof *cycles);
            std::memcpy(values + done, blocks_[done / kEntries]->values, n * sizeof *values);
        }
    }
    void clear() { blocks_.clear(), count_ = 0; }

  private:
    static constexpr size_t kEntries = 1 << 14;
    struct Block {
        uint32_t cycles[kEntries];
        uint16_t values[kEntries];
    };
    std::vector<std::unique_ptr<Block>> blocks_;
    size_t count_ = 0;
};

struct TraceBuffer {
    RowTrace rows[ROWS];

    template <class Valid, class Value>
    void sample(uint32_t cycle, const Valid& valid, const Value& value) {
        for (size_t word = 0; word * 32 < ROWS; ++word) {
            for (uint32_t bits = field(valid, word); bits; bits &= bits - 1) {
                const size_t row = word * 32 + __builtin_ctz(bits);
                rows[row].add(cycle, field(value, row / 2) >> 16 * (row % 2));
            }
        }
    }
};

// Cycles by tile and by what the array does in them (`trace_state`), and those in which the attention engine works.
class Account {
  public:
    static constexpr size_t kStates = 8;
    void sample(uint32_t tile, uint32_t state) {
        if (counts_.size() < (tile + 1) * kStates) counts_.resize((tile + 1) * kStates);
        ++counts_[tile * kStates + state % kStates];
        attention += state / kStates & 1;
        current = tile;
    }
    void clear() { counts_.clear(), attention = 0, current = 0; }
    const std::vector<uint64_t>& counts() const { return counts_; }
    uint64_t attention = 0;
    uint32_t current = 0;

  private:
    std::vector<uint64_t> counts_;
};

// Verilator's name of port `interrupt`, which is a macro on some other system.
#define INTERRUPT __SYM__interrupt
#define ADDRESS(bus, a) \
    AddressPorts { top->bus##_##a##valid, top->bus##_##a##ready, top->bus##_##a##addr, top->bus##_##a##len, top->bus##_##a##size, top->bus##_##a##burst }
#define READ(bus) \
    ReadPorts { top->bus##_rvalid, top->bus##_rready, top->bus##_rlast, top->bus##_rresp, top->bus##_rdata }

struct Simulation {
    VerilatedContext context;
    World world;
    std::unique_ptr<Vtop> top;
    std::vector<std::unique_ptr<Channel>> channels;  // program read, data read, data write, pixels read, weights read 0, 1, ...
    std::vector<Channel*> order;                     // who draws from the pool first: the one that has waited longest
    TraceBuffer traces[2];
    Account account;
    uint64_t trace_base = 0;  // cycle at which traces and account were cleared
#if VM_TRACE
    std::unique_ptr<VerilatedFstC> waves;
    std::string waves_path;
    uint64_t waves_first = 0, waves_last = 0;
#endif

    explicit Simulation(const Config& config)
        : world(config),
          top(make_top(context)) {
        add_read("program read", ADDRESS(m_axi_program, ar), READ(m_axi_program));
        add_read("data read", ADDRESS(m_axi_data, ar), READ(m_axi_data));
        channels.push_back(std::make_unique<WriteChannel>(
            world, "data write", ADDRESS(m_axi_data, aw),
            WritePorts{top->m_axi_data_wvalid, top->m_axi_data_wready, top->m_axi_data_wlast, top->m_axi_data_wstrb, top->m_axi_data_wdata,
                       top->m_axi_data_bvalid, top->m_axi_data_bready, top->m_axi_data_bresp}));
        add_read("pixels read", ADDRESS(m_axi_pixels, ar), READ(m_axi_pixels));
#if WEIGHT_PORTS > 0
        add_read("weights 0 read", ADDRESS(m_axi_weights_0, ar), READ(m_axi_weights_0));
#endif
#if WEIGHT_PORTS > 1
        add_read("weights 1 read", ADDRESS(m_axi_weights_1, ar), READ(m_axi_weights_1));
#endif
#if WEIGHT_PORTS > 2
        add_read("weights 2 read", ADDRESS(m_axi_weights_2, ar), READ(m_axi_weights_2));
#endif
#if WEIGHT_PORTS > 3
        add_read("weights 3 read", ADDRESS(m_axi_weights_3, ar), READ(m_axi_weights_3));
#endif
        for (auto& channel : channels) order.push_back(channel.get());
        top->rst = 1;
        for (int i = 0; i < 4; ++i) edge();
        top->rst = 0;
    }
    ~Simulation() {
#if VM_TRACE
        if (waves) waves->close();
#endif
        top->final();
    }

    void edge() {
        set_clock(0);
        set_clock(1);
    }

    // Half a cycle of the clock. clk_2x falls in the middle of the half before, and rises with every edge, in the same evaluation.
    void set_clock(int level) {
#ifdef HAS_CLK_2X
        top->clk_2x = 0;
        top->eval();
        top->clk_2x = 1;
#endif
        top->clk = level;
        top->eval();
        dump(2 * world.now + level);
    }

    void cycle() {
        world.refill();
        for (Channel* channel : order) channel->drive();
        set_clock(0);
        for (auto& channel : channels) channel->sample();
        sample_trace();
        lite_fired = {top->s_axi_control_awvalid && top->s_axi_control_awready, top->s_axi_control_wvalid && top->s_axi_control_wready,
                      top->s_axi_control_bvalid && top->s_axi_control_bready, top->s_axi_control_arvalid && top->s_axi_control_arready,
                      top->s_axi_control_rvalid && top->s_axi_control_rready};
        lite_response = lite_fired.r ? top->s_axi_control_rresp : top->s_axi_control_bresp;
        lite_data = top->s_axi_control_rdata;
        set_clock(1);
        for (auto& channel : channels) channel->after_edge();
        std::stable_partition(order.begin(), order.end(), [](Channel* channel) { return !std::exchange(channel->moved, false); });
        ++world.now;
    }

    // Both return the AXI response, or -1 if the design did not answer.
    int write_register(uint32_t offset, uint32_t value) {
        bool address_done = false, data_done = false;
        for (int i = 0; i < kLiteLimit; ++i) {
            top->s_axi_control_awaddr = offset;
            top->s_axi_control_wdata = value;
            top->s_axi_control_wstrb = 15;
            top->s_axi_control_awvalid = !address_done && (top->s_axi_control_awvalid || !world.stalled());
            top->s_axi_control_wvalid = !data_done && (top->s_axi_control_wvalid || !world.stalled());
            top->s_axi_control_bready = !world.stalled();
            cycle();
            address_done |= lite_fired.aw;
            data_done |= lite_fired.w;
            if (lite_fired.b) return lite_idle(), lite_response;
        }
        return lite_idle(), -1;
    }
    int read_register(uint32_t offset, uint32_t* value) {
        bool address_done = false;
        for (int i = 0; i < kLiteLimit; ++i) {
            top->s_axi_control_araddr = offset;
            top->s_axi_control_arvalid = !address_done && (top->s_axi_control_arvalid || !world.stalled());
            top->s_axi_control_rready = !world.stalled();
            cycle();
            address_done |= lite_fired.ar;
            *value = lite_data;
            if (lite_fired.r) return lite_idle(), lite_response;
        }
        return lite_idle(), -1;
    }

  private:
    static std::unique_ptr<Vtop> make_top(VerilatedContext& context) {
#if VM_TRACE
        context.traceEverOn(true);
#endif
        return std::make_unique<Vtop>(&context, "top");
    }
    void add_read(const char* name, AddressPorts address, ReadPorts data) {
        channels.push_back(std::make_unique<ReadChannel>(world, name, address, data));
    }
    void lite_idle() {
        top->s_axi_control_awvalid = top->s_axi_control_wvalid = top->s_axi_control_bready = 0;
        top->s_axi_control_arvalid = top->s_axi_control_rready = 0;
    }
    void sample_trace() {
#ifdef HAS_TRACE
        const uint32_t cycle = world.now - trace_base;
        traces[0].sample(cycle, top->trace_linear_valid, top->trace_linear_value);
        traces[1].sample(cycle, top->trace_attention_valid, top->trace_attention_value);
#endif
#ifdef HAS_STATE
        account.sample(top->trace_tile, top->trace_state);
#endif
    }
    void dump([[maybe_unused]] uint64_t time) {
#if VM_TRACE
        if (waves_path.empty() || time / 2 < waves_first) return;
        if (!waves) {
            waves = std::make_unique<VerilatedFstC>();
            top->trace(waves.get(), 99);
            waves->open(waves_path.c_str());
        }
        if (time / 2 <= waves_last) return waves->dump(time);
        waves->close();
        waves_path.clear();
#endif
    }
    struct {
        bool aw, w, b, ar, r;
    } lite_fired{};
    int lite_response = 0;
    uint32_t lite_data = 0;
};

}  // namespace

extern "C" {
Simulation* sim_new(const Config* config) { return new Simulation(*config); }
void sim_delete(Simulation* s) { delete s; }
void sim_write_memory(Simulation* s, uint64_t address, const uint8_t* data, uint64_t size) { s->world.memory.copy_in(address, data, size); }
void sim_read_memory(Simulation* s, uint64_t address, uint8_t* data, uint64_t size) { s->world.memory.copy_out(address, data, size); }
int sim_write_register(Simulation* s, uint32_t offset, uint32_t value) { return s->write_register(offset, value); }
int sim_read_register(Simulation* s, uint32_t offset, uint32_t* value) { return s->read_register(offset, value); }
uint64_t sim_now(Simulation* s) { return s->world.now; }
int sim_interrupt(Simulation* s) { return s->top->INTERRUPT; }
const char* sim_violation(Simulation* s) { return s->world.violation.c_str(); }
// Runs until the interrupt is high (seen after a clock edge), a rule is broken or `cycles` are over; returns the cycles run.
uint64_t sim_run(Simulation* s, uint64_t cycles, int until_interrupt) {
    const uint64_t first = s->world.now;
    while (s->world.now - first < cycles && s->world.violation.empty()) {
        s->cycle();
        if (until_interrupt && s->top->INTERRUPT) break;
    }
    return s->world.now - first;
}
void sim_add_error(Simulation* s, uint64_t first, uint64_t last, uint32_t response, int reads, int writes) {
    s->world.errors.push_back({first, last, static_cast<uint8_t>(response), reads != 0, writes != 0});
}
uint64_t sim_beats(Simulation* s, int channel) { return s->channels[channel]->beats; }
uint64_t sim_bytes(Simulation* s) {
    uint64_t beats = 0;
    for (auto& channel : s->channels) beats += channel->beats;
    return beats * kBeatBytes;
}
uint64_t sim_writes(Simulation* s, const WriteRecord** records) {
    *records = s->world.writes.data();
    return s->world.writes.size();
}
uint64_t sim_trace_count(Simulation* s, int channel, int row) { return s->traces[channel].rows[row].count(); }
// Cycles count from `sim_trace_base`.
void sim_trace(Simulation* s, int channel, int row, uint32_t* cycles, uint16_t* values) { s->traces[channel].rows[row].copy_out(cycles, values); }
uint64_t sim_trace_base(Simulation* s) { return s->trace_base; }
// Eight counts per tile, one for each state; returns how many counts there are.
uint64_t sim_account(Simulation* s, const uint64_t** counts) {
    *counts = s->account.counts().data();
    return s->account.counts().size();
}
uint64_t sim_attention_cycles(Simulation* s) { return s->account.attention; }
uint32_t sim_tile(Simulation* s) { return s->account.current; }
void sim_clear_trace(Simulation* s) {
    for (auto& trace : s->traces)
        for (auto& row : trace.rows) row.clear();
    s->account.clear();
    s->trace_base = s->world.now;
}
int sim_dump(Simulation* s, const char* path, uint64_t first, uint64_t last) {
#if VM_TRACE
    s->waves_path = path;
    s->waves_first = first;
    s->waves_last = last;
    return 1;
#else
    (void)s, (void)path, (void)first, (void)last;
    return 0;
#endif
}
}
