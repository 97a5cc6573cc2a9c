// The world around the accelerator: clock, AXI-Lite host, memory behind both AXI4 masters, trace buffers. C ABI for ctypes.
//
// One cycle: inputs are set, the design settles with the clock low, every handshake and trace port is sampled, the clock rises.
// Compiled once per design, with -DROWS=<rows> and, where the design has trace ports, -DHAS_TRACE.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
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
    uint32_t latency;         // cycles from an accepted address to its first beat
    uint32_t efficiency;      // percent of cycles in which a channel can move a beat
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

    explicit World(const Config& c) : config(c), random(c.seed), memory(c.fill) {}
    bool stalled() { return random.chance(config.stall); }
    bool refreshing() const { return config.refresh_period && now % config.refresh_period < config.refresh_length; }
    uint8_t response(uint64_t address, bool write) const {
        for (const auto& range : errors)
            if (address >= range.first && address <= range.last && (write ? range.writes : range.reads)) return range.response;
        return 0;
    }
    void violate(const std::string& what) {
        if (violation.empty()) violation = "cycle " + std::to_string(now) + ": " + what;
    }
};

// A data channel moves a beat in `efficiency` percent of the cycles outside refresh.
class Pace {
  public:
    bool ready(const World& world) {
        if (world.refreshing()) return false;
        credit_ = std::min<uint32_t>(credit_ + world.config.efficiency, 200);
        return credit_ >= 100;
    }
    void spend() { credit_ -= 100; }

  private:
    uint32_t credit_ = 0;
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

struct ReadPorts {
    CData& valid;
    CData& ready;
    CData& last;
    CData& response;
    VlWide<4>& data;
};

class ReadChannel {
  public:
    ReadChannel(World& world, const char* name, AddressPorts address, ReadPorts ports)
        : world_(world), address_(world, name, address), ports_(ports) {}
    void drive() {
        address_.drive();
        const bool paced = pace_.ready(world_);
        if (ports_.valid || address_.queue.empty() || !paced || world_.stalled()) return;
        const Request& head = address_.queue.front();
        if (head.due > world_.now) return;
        pace_.spend();
        ports_.valid = 1;
        ports_.last = head.beats == 1;
        ports_.response = world_.response(head.address, false);
        std::memcpy(ports_.data.data(), world_.memory.beat(head.address), kBeatBytes);
    }
    void sample() {
        address_.sample();
        if (!ports_.valid || !ports_.ready) return;
        ++beats;
        ports_valid_next_ = false;
        Request& head = address_.queue.front();
        head.address += kBeatBytes;
        if (--head.beats == 0) address_.queue.pop_front();
    }
    void after_edge() {
        if (!ports_valid_next_) ports_.valid = 0;
        ports_valid_next_ = true;
    }
    uint64_t beats = 0;

  private:
    World& world_;
    AddressChannel address_;
    ReadPorts ports_;
    Pace pace_;
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

class WriteChannel {
  public:
    WriteChannel(World& world, const char* name, AddressPorts address, WritePorts ports)
        : world_(world), name_(name), address_(world, name, address), ports_(ports) {}
    void drive() {
        address_.drive();
        const bool paced = pace_.ready(world_);
        ports_.ready = !address_.queue.empty() && paced && !world_.stalled();
        if (ports_.answer_valid || answers_.empty() || answers_.front().first > world_.now || world_.stalled()) return;
        ports_.answer_valid = 1;
        ports_.answer = answers_.front().second;
    }
    void sample() {
        if (waiting_ && !ports_.valid) world_.violate(name_ + ": write data withdrawn before ready");
        waiting_ = ports_.valid && !ports_.ready;
        if (ports_.valid && ports_.ready) accept();
        address_.sample();
        answered_ = ports_.answer_valid && ports_.answer_ready;
    }
    void after_edge() {
        if (!answered_) return;
        answers_.pop_front();
        ports_.answer_valid = 0;
    }
    uint64_t beats = 0;

  private:
    void accept() {
        ++beats;
        pace_.spend();
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
    Pace pace_;
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

struct TraceBuffer {
    std::vector<uint64_t> cycles[ROWS];
    std::vector<uint16_t> values[ROWS];

    template <class Valid, class Value>
    void sample(uint64_t now, const Valid& valid, const Value& value) {
        for (size_t word = 0; word * 32 < ROWS; ++word) {
            for (uint32_t bits = field(valid, word); bits; bits &= bits - 1) {
                const size_t row = word * 32 + __builtin_ctz(bits);
                cycles[row].push_back(now);
                values[row].push_back(field(value, row / 2) >> 16 * (row % 2));
            }
        }
    }
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
    ReadChannel program, data;
    WriteChannel result;
    TraceBuffer traces[2];
#if VM_TRACE
    std::unique_ptr<VerilatedFstC> waves;
    std::string waves_path;
    uint64_t waves_first = 0, waves_last = 0;
#endif

    explicit Simulation(const Config& config)
        : world(config),
          top(make_top(context)),
          program(world, "program read", ADDRESS(m_axi_program, ar), READ(m_axi_program)),
          data(world, "data read", ADDRESS(m_axi_data, ar), READ(m_axi_data)),
          result(world, "data write", ADDRESS(m_axi_data, aw),
                 WritePorts{top->m_axi_data_wvalid, top->m_axi_data_wready, top->m_axi_data_wlast, top->m_axi_data_wstrb, top->m_axi_data_wdata,
                            top->m_axi_data_bvalid, top->m_axi_data_bready, top->m_axi_data_bresp}) {
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
        top->clk = 0;
        top->eval();
        dump(2 * world.now);
        top->clk = 1;
        top->eval();
        dump(2 * world.now + 1);
    }

    void cycle() {
        program.drive();
        data.drive();
        result.drive();
        top->clk = 0;
        top->eval();
        dump(2 * world.now);
        program.sample();
        data.sample();
        result.sample();
        sample_trace();
        lite_fired = {top->s_axi_control_awvalid && top->s_axi_control_awready, top->s_axi_control_wvalid && top->s_axi_control_wready,
                      top->s_axi_control_bvalid && top->s_axi_control_bready, top->s_axi_control_arvalid && top->s_axi_control_arready,
                      top->s_axi_control_rvalid && top->s_axi_control_rready};
        lite_response = lite_fired.r ? top->s_axi_control_rresp : top->s_axi_control_bresp;
        lite_data = top->s_axi_control_rdata;
        top->clk = 1;
        top->eval();
        dump(2 * world.now + 1);
        program.after_edge();
        data.after_edge();
        result.after_edge();
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
    void lite_idle() {
        top->s_axi_control_awvalid = top->s_axi_control_wvalid = top->s_axi_control_bready = 0;
        top->s_axi_control_arvalid = top->s_axi_control_rready = 0;
    }
    void sample_trace() {
#ifdef HAS_TRACE
        traces[0].sample(world.now, top->trace_linear_valid, top->trace_linear_value);
        traces[1].sample(world.now, top->trace_attention_valid, top->trace_attention_value);
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
uint64_t sim_beats(Simulation* s, int channel) { return channel == 0 ? s->program.beats : channel == 1 ? s->data.beats : s->result.beats; }
uint64_t sim_writes(Simulation* s, const WriteRecord** records) {
    *records = s->world.writes.data();
    return s->world.writes.size();
}
uint64_t sim_trace(Simulation* s, int channel, int row, const uint64_t** cycles, const uint16_t** values) {
    const TraceBuffer& trace = s->traces[channel];
    *cycles = trace.cycles[row].data();
    *values = trace.values[row].data();
    return trace.cycles[row].size();
}
void sim_clear_trace(Simulation* s) {
    for (auto& trace : s->traces) trace = TraceBuffer{};
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
